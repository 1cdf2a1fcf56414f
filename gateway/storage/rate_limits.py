"""Admission: limits of requests. Rolling rates (minute, hour) by GCRA; longer windows by counting.

In process: rates begin anew with the process, at most one burst more after a restart. Longer windows are loaded from
the usage log when first needed, so they survive it. SQL gone: counts already loaded go on; a caller whose counts are
not loaded yet gets `ledger_unavailable`. The twin that replicas share is `rate_limits_redis`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from gateway.domain.caller import Caller
from gateway.domain.limits import Limit, Window, gcra, refusal, window_bounds
from gateway.errors import LimitExceeded

_NS = 1_000_000_000

CountCalls = Callable[[Caller, Limit, int], Awaitable[int]]
"""The calls that the usage log counts against a limit since the start of its window (milliseconds)."""


class RateState(NamedTuple):
    """A limit of requests after this call, for the `RateLimit` headers."""

    limit: Limit
    left: int
    reset_s: int | None


class Verdict(NamedTuple):
    """Of one call. With a refusal nothing was taken, and `states` are as they were."""

    states: Sequence[RateState]
    refusal: LimitExceeded | None


Heard = Callable[[Verdict | None], None]


class RateLimits(Protocol):
    """Every limit of requests of a caller at once, all or nothing.

    `now_ns` is monotonic (rates must not jump with the clock), `now_ms` the wall clock of calendar windows.
    `call_id` is the same when the same call asks again.
    """

    def try_take(self, caller: Caller, *, now_ns: int, now_ms: int) -> Verdict | None:
        """Admit one call without awaiting anything; None: `ask`, or await `take`."""

    def ask(self, caller: Caller, *, call_id: str, now_ns: int, now_ms: int, heard: Heard) -> None:
        """Admit one call; `heard` is told the verdict soon, or None when `take` has to be awaited."""

    async def take(self, caller: Caller, *, call_id: str, now_ns: int, now_ms: int) -> Verdict:
        """Admit one call, whatever has to be asked or loaded for it. Raises LedgerUnavailable."""

    def give_back(self, caller: Caller, *, call_id: str) -> None:
        """Undo one `take`: the call was refused by another limit after all, and 429s do not count."""

    async def look(self, caller: Caller, *, now_ns: int, now_ms: int) -> Sequence[RateState]:
        """What is left of each limit; nothing is taken. Raises LedgerUnavailable."""


class MemoryRateLimits:
    """Counts of one process. `share`: how many processes share the limits; each then takes its part of them alone."""

    def __init__(self, count_calls: CountCalls) -> None:
        self._count_calls = count_calls
        self.share = 1
        self._tats: dict[str, int] = {}
        self._counts: dict[str, tuple[int, int]] = {}  # window start, calls
        self._windows: dict[Window, tuple[int, int | None]] = {}
        self._sweep_at = 10_000

    def try_take(self, caller: Caller, *, now_ns: int, now_ms: int) -> Verdict | None:
        return None if self._missing(caller, now_ms) else self._take(caller, now_ns, now_ms)

    def ask(
        self,
        caller: Caller,
        *,
        call_id: str,  # noqa: ARG002  (memory answers at once: nothing is asked twice)
        now_ns: int,
        now_ms: int,
        heard: Heard,
    ) -> None:
        heard(self.try_take(caller, now_ns=now_ns, now_ms=now_ms))

    async def take(
        self,
        caller: Caller,
        *,
        call_id: str,  # noqa: ARG002
        now_ns: int,
        now_ms: int,
    ) -> Verdict:
        while (verdict := self.try_take(caller, now_ns=now_ns, now_ms=now_ms)) is None:
            await self._load(caller, now_ms)
        return verdict

    async def _load(self, caller: Caller, now_ms: int) -> None:
        """Counts of the present windows, unless someone else loaded them in the meantime and counted on."""
        for limit, key, start_ms in self._missing(caller, now_ms):
            calls = await self._count_calls(caller, limit, start_ms)
            held = self._counts.get(key)
            if held is None or held[0] < start_ms:
                self._counts[key] = (start_ms, calls)

    def _missing(self, caller: Caller, now_ms: int) -> Sequence[tuple[Limit, str, int]]:
        """Limits whose count of the present window is not in memory, each with its key and the window's start."""
        found = []
        for limit, key in caller.request_limits:
            if not limit.is_rate:
                start_ms, _ = self._bounds(limit.window, now_ms)
                held = self._counts.get(key)
                if held is None or held[0] < start_ms:
                    found.append((limit, key, start_ms))
        return found

    def _take(self, caller: Caller, now_ns: int, now_ms: int) -> Verdict:
        states: list[RateState] = []
        tats: list[tuple[str, int]] = []
        counts: list[tuple[str, tuple[int, int]]] = []
        for limit, key in caller.request_limits:
            amount = limit.amount
            weight = 1 if self.share == 1 else max(1, min(self.share, amount))
            if limit.is_rate:
                tat_ns = self._tats.get(key, 0)
                rate = gcra(tat_ns=tat_ns, now_ns=now_ns, amount=amount, period_s=limit.period_s, weight=weight)
                if not rate.allowed:
                    reset_ms = now_ms + rate.retry_after_ns // 1_000_000
                    return self._refused(caller, limit, reset_ms, now_ns, now_ms)
                tats.append((key, rate.tat_ns))
                states.append(RateState(limit, rate.left, -(-rate.reset_ns // _NS)))
            else:
                _, end_ms = self._bounds(limit.window, now_ms)
                start_ms, used = self._counts[key]  # of a call that came late the newer window, if it has begun
                if used + weight > amount:
                    return self._refused(caller, limit, end_ms, now_ns, now_ms)
                counts.append((key, (start_ms, used + weight)))
                reset_s = None if end_ms is None else math.ceil((end_ms - now_ms) / 1000)
                states.append(RateState(limit, amount - used - weight, reset_s))
        self._tats.update(tats)
        self._counts.update(counts)
        if len(self._tats) > self._sweep_at:
            self._sweep(now_ns)
        return Verdict(states, None)

    def _refused(self, caller: Caller, limit: Limit, reset_ms: int | None, now_ns: int, now_ms: int) -> Verdict:
        refused = refusal(limit, asked=1, left=0, reset_ms=reset_ms, now_ms=now_ms)
        return Verdict(self._look(caller, now_ns, now_ms), refused)

    def give_back(self, caller: Caller, *, call_id: str) -> None:  # noqa: ARG002
        for limit, key in caller.request_limits:
            weight = max(1, min(self.share, limit.amount))
            if limit.is_rate:
                step_ns = -(-limit.period_s * _NS // limit.amount) * weight
                self._tats[key] = self._tats.get(key, step_ns) - step_ns
            elif key in self._counts:
                start_ms, used = self._counts[key]
                self._counts[key] = (start_ms, max(0, used - weight))

    async def look(self, caller: Caller, *, now_ns: int, now_ms: int) -> Sequence[RateState]:
        await self._load(caller, now_ms)
        return self._look(caller, now_ns, now_ms)

    def _look(self, caller: Caller, now_ns: int, now_ms: int) -> Sequence[RateState]:
        states = []
        for limit, key in caller.request_limits:
            if limit.is_rate:
                spacing_ns = -(-limit.period_s * _NS // max(limit.amount, 1))  # as `gcra` has it
                ahead_ns = max(self._tats.get(key, 0) - now_ns, 0)
                left = (spacing_ns * limit.amount - ahead_ns) // spacing_ns
                states.append(RateState(limit, max(0, left), -(-ahead_ns // _NS)))
            elif key in self._counts:
                _, end_ms = self._bounds(limit.window, now_ms)
                reset_s = None if end_ms is None else math.ceil((end_ms - now_ms) / 1000)
                states.append(RateState(limit, max(0, limit.amount - self._counts[key][1]), reset_s))
        return states

    def forget_counts(self) -> None:
        """Others count now: what is counted here is loaded anew when it is needed again."""
        self._counts.clear()

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
