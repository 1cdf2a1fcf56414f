"""How often a process may try again: one further attempt for ten requests, so that trouble is not multiplied."""

from __future__ import annotations

from dataclasses import dataclass

_ATTEMPT = 10  # tenths
_CAP = 20 * _ATTEMPT


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """A balance in tenths of an attempt.

    A further attempt is allowed while the balance is above 0, so it may be overdrawn by nine tenths: attempts stay
    within 1.1 x requests + 0.9, and a lone first call may still be tried again.
    """

    tenths: int = 0

    def deposit(self) -> RetryBudget:
        """After the first attempt of a request."""
        return RetryBudget(min(_CAP, self.tenths + 1))

    def spend(self) -> RetryBudget | None:
        """After one further attempt; None when it is not allowed."""
        return RetryBudget(self.tenths - _ATTEMPT) if self.tenths > 0 else None
