"""The health of one provider key: what each call's outcome makes of it, and when it may serve again.

A state machine without a clock: `now_s` is any clock that runs evenly. Values never change; each outcome gives a new
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.domain.outcome import KeyEffect

FAULTS_TO_OPEN = 10
_FIRST_COOL_S, _LONGEST_COOL_S = 1.0, 60.0
_LONGEST_ASKED_S = 3600.0
_FIRST_OPEN_S, _LONGEST_OPEN_S = 10.0, 120.0
_MAX_DOUBLINGS = 10  # far past both caps, and no number grows without end


class KeyStatus(StrEnum):
    """HALF_OPEN: one call may find out whether the trouble is over. DISABLED: by an administrator's choice."""

    HEALTHY = "healthy"
    COOLING = "cooling"
    CIRCUIT_OPEN = "circuit_open"
    HALF_OPEN = "half_open"
    OUT_OF_CREDITS = "out_of_credits"
    EJECTED = "ejected"
    DISABLED = "disabled"


_UNHEARD: Mapping[KeyStatus, AbstractSet[KeyEffect]] = {
    KeyStatus.EJECTED: {"sound", "cool", "fault", "eject", "await_credits"},
    KeyStatus.OUT_OF_CREDITS: {"sound", "cool", "fault", "await_credits"},
    KeyStatus.CIRCUIT_OPEN: {"sound", "cool", "fault"},
    KeyStatus.COOLING: {"sound"},
}
"""What a call that began before the key was found bad can't change any more."""


@dataclass(frozen=True, slots=True)
class KeyHealth:
    """`until_s`: when a cool-down or an open circuit ends. `reason`: the observation that led here, for operators.

    `rate_limits`: consecutive cool-downs. `faults`: consecutive ones. `openings`: consecutive times that the circuit
    opened.
    """

    status: KeyStatus = KeyStatus.HEALTHY
    until_s: float | None = None
    reason: str | None = None
    rate_limits: int = 0
    faults: int = 0
    openings: int = 0

    def status_at(self, now_s: float) -> KeyStatus:
        """Cool-downs and open circuits end by themselves."""
        over = self.until_s is not None and now_s >= self.until_s
        if self.status is KeyStatus.COOLING and over:
            return KeyStatus.HEALTHY
        if self.status is KeyStatus.CIRCUIT_OPEN and over:
            return KeyStatus.HALF_OPEN
        return self.status

    def after(
        self, effect: KeyEffect, *, now_s: float, reason: str = "", retry_after_s: float | None = None
    ) -> KeyHealth:
        """The health after a call with this outcome. `retry_after_s`: what the provider asked for with a 429.

        Nothing but `reinstated` ends an ejection, nothing but `credits_back` a lack of credits, and an open circuit
        waits for its probe.
        """
        status = self.status_at(now_s)
        if effect in _UNHEARD.get(status, ()):
            return self
        match effect:
            case "sound":
                return KeyHealth()
            case "eject":
                return KeyHealth(KeyStatus.EJECTED, reason=reason)
            case "await_credits":
                return KeyHealth(KeyStatus.OUT_OF_CREDITS, reason=reason)
            case "cool":
                return self._cooled(status, now_s, reason, retry_after_s)
            case "fault":
                return self._faulty(status, now_s, reason)

    def reinstated(self) -> KeyHealth:
        """By an administrator, or with a new secret."""
        return KeyHealth()

    def credits_back(self) -> KeyHealth:
        """The account can pay again; any other trouble stays."""
        return KeyHealth() if self.status is KeyStatus.OUT_OF_CREDITS else self

    def _cooled(self, status: KeyStatus, now_s: float, reason: str, retry_after_s: float | None) -> KeyHealth:
        burst = status is KeyStatus.COOLING  # calls that were under way together are refused together: counted once
        count = max(1, self.rate_limits) if burst else min(self.rate_limits + 1, _MAX_DOUBLINGS)
        backoff_s = min(_LONGEST_COOL_S, _FIRST_COOL_S * 2 ** (count - 1))
        until_s = now_s + (min(retry_after_s, _LONGEST_ASKED_S) if retry_after_s else backoff_s)
        if burst and self.until_s is not None:
            until_s = max(until_s, self.until_s) if retry_after_s else self.until_s
        return replace(self, status=KeyStatus.COOLING, until_s=until_s, reason=reason, rate_limits=count, faults=0)

    def _faulty(self, status: KeyStatus, now_s: float, reason: str) -> KeyHealth:
        faults = self.faults + 1
        if status is not KeyStatus.HALF_OPEN and faults < FAULTS_TO_OPEN:
            return replace(self, faults=faults)
        openings = min(self.openings + 1, _MAX_DOUBLINGS)
        until_s = now_s + min(_LONGEST_OPEN_S, _FIRST_OPEN_S * 2 ** (openings - 1))
        if status is KeyStatus.COOLING and self.until_s is not None:
            until_s = max(until_s, self.until_s)
        return KeyHealth(KeyStatus.CIRCUIT_OPEN, until_s, reason, faults=faults, openings=openings)
