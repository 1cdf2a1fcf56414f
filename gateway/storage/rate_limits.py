"""Admission: limits of requests, in process. Rolling rates (minute, hour) by GCRA; longer windows by counting.

Rates begin anew with the process: at most one burst more after a restart. Longer windows are loaded from the usage
log when first needed, so they survive it. SQL gone: counts already loaded go on; a caller whose counts are not
loaded yet gets `ledger_unavailable`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from gateway.domain.caller import Caller
from gateway.domain.limits import Limit, Window, gcra, refusal, window_bounds

_NS = 1_000_000_000


class RateState(NamedTuple):
    """A limit of requests after this call, for the `RateLimit` headers."""

    limit: Limit
    left: int
    reset_s: int | None


class MemoryRateLimits:
    """Counts of one process. `take` decides without awaiting; `missing` says what has to be loaded first."""

    def __init__(self) -> None:
        self._tats: dict[str, int] = {}
        self._counts: dict[str, tuple[int, int]] = {}  # window start, calls
        self._windows: dict[Window, tuple[int, int | None]] = {}
        self._sweep_at = 10_000

    def missing(self, caller: Caller, now_ms: int) -> list[tuple[Limit, int]]:
        """Limits whose count of the present window is not in memory, each with the window's start."""
        found = []
        for limit, key in caller.request_limits:
            if not limit.is_rate:
                start_ms, _ = self._bounds(limit.window, now_ms)
                held = self._counts.get(key)
                if held is None or held[0] < start_ms:
                    found.append((limit, start_ms))
        return found

    def load(self, caller: Caller, limit: Limit, start_ms: int, calls: int) -> None:
        """Set a count, unless someone else loaded it in the meantime and counted on."""
        key = next(key for each, key in caller.request_limits if each == limit)
        held = self._counts.get(key)
        if held is None or held[0] < start_ms:
            self._counts[key] = (start_ms, calls)

    def take(self, caller: Caller, *, now_ns: int, now_ms: int) -> Sequence[RateState]:
        """Admit one call under every limit of requests, or raise LimitExceeded and take nothing.

        `now_ns` is monotonic (rates must not jump with the clock), `now_ms` the wall clock of calendar windows.
        """
        states: list[RateState] = []
        tats: list[tuple[str, int]] = []
        counts: list[tuple[str, tuple[int, int]]] = []
        for limit, key in caller.request_limits:
            if limit.is_rate:
                tat_ns = self._tats.get(key, 0)
                rate = gcra(tat_ns=tat_ns, now_ns=now_ns, amount=limit.amount, period_s=limit.period_s)
                if not rate.allowed:
                    reset_ms = now_ms + rate.retry_after_ns // 1_000_000
                    raise refusal(limit, asked=1, left=0, reset_ms=reset_ms, now_ms=now_ms)
                tats.append((key, rate.tat_ns))
                states.append(RateState(limit, rate.left, -(-rate.reset_ns // _NS)))
            else:
                _, end_ms = self._bounds(limit.window, now_ms)
                start_ms, used = self._counts[key]  # of a call that came late the newer window, if it has begun
                if used >= limit.amount:
                    raise refusal(limit, asked=1, left=0, reset_ms=end_ms, now_ms=now_ms)
                counts.append((key, (start_ms, used + 1)))
                reset_s = None if end_ms is None else math.ceil((end_ms - now_ms) / 1000)
                states.append(RateState(limit, limit.amount - used - 1, reset_s))
        self._tats.update(tats)
        self._counts.update(counts)
        if len(self._tats) > self._sweep_at:
            self._sweep(now_ns)
        return states

    def give_back(self, caller: Caller) -> None:
        """Undo one `take`: the call was refused by another limit after all, and 429s do not count."""
        for limit, key in caller.request_limits:
            if limit.is_rate:
                spacing_ns = -(-limit.period_s * _NS // limit.amount)
                self._tats[key] = self._tats.get(key, spacing_ns) - spacing_ns
            elif key in self._counts:
                start_ms, used = self._counts[key]
                self._counts[key] = (start_ms, max(0, used - 1))

    def look(self, caller: Caller, *, now_ns: int, now_ms: int) -> list[RateState]:
        """What is left of each limit of requests; nothing is taken. Counts not loaded are left out."""
        states = []
        for limit, key in caller.request_limits:
            if limit.is_rate:
                period_s = limit.period_s
                ahead_ns = max(self._tats.get(key, 0) - now_ns, 0)
                left = (period_s * _NS - ahead_ns) * limit.amount // (period_s * _NS)
                states.append(RateState(limit, max(0, left), -(-ahead_ns // _NS)))
            elif key in self._counts:
                _, end_ms = self._bounds(limit.window, now_ms)
                reset_s = None if end_ms is None else math.ceil((end_ms - now_ms) / 1000)
                states.append(RateState(limit, max(0, limit.amount - self._counts[key][1]), reset_s))
        return states

    def _sweep(self, now_ns: int) -> None:
        """Forget rates that are free again; look again once there are twice as many."""
        self._tats = {key: tat for key, tat in self._tats.items() if tat > now_ns}
        self._sweep_at = max(10_000, 2 * len(self._tats))

    def _bounds(self, window: Window, now_ms: int) -> tuple[int, int | None]:
        """`window_bounds`, worked out once a window."""
        start_ms, end_ms = self._windows.get(window, (0, 0))
        if now_ms < start_ms or (end_ms is not None and now_ms >= end_ms):
            start_ms, end_ms = self._windows[window] = window_bounds(window, now_ms)
        return start_ms, end_ms
