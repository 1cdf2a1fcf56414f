"""The time of a call: this machine's clock, corrected by the database's where the two disagree.

Money's windows are the database's own. This is for what a process must say without asking: when a call came, whether an
entry is fresh, which window of requests it falls into. So a replica whose clock is off counts as the others do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

_AGREE_MS = 2000
"""Clocks that differ by less agree."""

_log = structlog.get_logger(__name__)


class Clock:
    """One a process. `here_ns`: this machine's, in nanoseconds since the epoch."""

    def __init__(self, here_ns: Callable[[], int] = time.time_ns) -> None:
        self._here_ns = here_ns
        self._ahead_ms = 0

    def now_ms(self) -> int:
        return self.here_ms() - self._ahead_ms

    def now_s(self) -> float:
        return self.now_ms() / 1000

    def here_ms(self) -> int:
        """What this machine's clock says, right or wrong."""
        return self._here_ns() // 1_000_000

    def correct(self, database_ms: int, *, asked_ms: int) -> None:
        """By what the database said; it was asked at `asked_ms` of the clock here, and has just answered."""
        answered_ms = self.here_ms()
        ahead_ms = 0
        if not asked_ms - _AGREE_MS <= database_ms <= answered_ms + _AGREE_MS:
            ahead_ms = (asked_ms + answered_ms) // 2 - database_ms
        if abs(ahead_ms - self._ahead_ms) >= _AGREE_MS:
            _log.warning("clock_is_off", ahead_s=round(ahead_ms / 1000, 1))
        self._ahead_ms = ahead_ms


clock = Clock()
"""A process has one clock, whoever asks it."""
