"""Which provider key serves the next purchase: the least busy for its weight among the healthy, with a slot free.

Slots and health live in this process. A slot given back goes straight to the longest waiter that may use it, so
nobody who comes later overtakes. After a circuit was open, one call in the whole pool at a time finds out whether a
key works again: never all keys at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from gateway.domain.key_health import KeyHealth, KeyStatus
from gateway.domain.outcome import RULES, Observation, Verdict
from gateway.domain.retry_budget import RetryBudget
from gateway.errors import ProviderUnavailable
from gateway.providers.base import ProviderKey
from gateway.providers.key_lane import Grant, KeyState, Lane, PooledKey, Waiter
from gateway.providers.key_log import Mended, log_change
from gateway.providers.key_refusals import every_key_busy, every_key_refused, no_key_configured, no_key_usable

__all__ = ["KeyPool", "KeyState", "PooledKey"]


class KeyPool:
    """The slots of one provider's keys.

    `provider` is its configured name. `follows_health` False: outcomes say nothing of the keys (the sandbox fails on
    request).
    """

    def __init__(
        self,
        provider: str,
        keys: Sequence[PooledKey],
        *,
        clock: Callable[[], float] = time.monotonic,
        follows_health: bool = True,
    ) -> None:
        self.provider = provider
        self._lanes = {pooled.key.id: Lane(pooled) for pooled in keys}
        self._waiters: deque[Waiter] = deque()
        self._clock = clock
        self._follows_health = follows_health
        self._budget = RetryBudget()
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def slot(self, *, exclude: Collection[str] = (), timeout_s: float) -> AsyncIterator[ProviderKey]:
        """A key with a free slot, not among the ids in `exclude`; held until the block ends.

        Say `succeeded` or `failed` inside the block: at its end the slot goes to the next call. Raises
        `ProviderUnavailable` when no slot frees within `timeout_s`, and at once when no key may serve by then.
        """
        grant = await self._acquire(frozenset(exclude), timeout_s)
        try:
            yield grant.key
        finally:
            self._release(grant)

    def require_any(self) -> None:
        """Raises ProviderUnavailable when there is no key at all, or none that is worth waiting for."""
        self._check(frozenset(), float("inf"))

    def begin(self) -> None:
        """A request makes its first attempt."""
        self._budget = self._budget.deposit()

    def may_retry(self) -> bool:
        """Whether a further attempt is within the budget; if so it is spent."""
        left = self._budget.spend()
        if left is not None:
            self._budget = left
        return left is not None

    def succeeded(self, key_id: str) -> None:
        """A call with this key was answered."""
        self._judge(key_id, lambda health, now_s: health.after(RULES[Observation.ANSWERED].key, now_s=now_s))

    def failed(self, key_id: str, verdict: Verdict) -> None:
        """A call with this key met what `verdict` says."""
        lane = self._lanes.get(key_id)
        if lane and verdict.key == "fault" and not lane.probing and self._status(lane) is KeyStatus.HALF_OPEN:
            return  # a late end of a call from before the circuit opened: only the probe decides
        self._judge(
            key_id,
            lambda health, now_s: health.after(
                verdict.key, now_s=now_s, reason=verdict.observation.value, retry_after_s=verdict.pause_s
            ),
        )

    def replace(self, keys: Sequence[PooledKey]) -> None:
        """These are the keys from now on. A key that stays keeps its calls, and its health unless its secret is new."""
        configured = {pooled.key.id: pooled for pooled in keys}
        for lane in self._lanes.values():
            lane.removed = lane.id not in configured
        for key_id, pooled in configured.items():
            lane = self._lanes.setdefault(key_id, Lane(pooled))
            is_new, lane.pooled = lane.pooled.key.secret != pooled.key.secret, pooled
            if is_new:
                self._set_health(lane, lane.health.reinstated(), "provider_key_reinstated")
        self._drop_removed()
        self._turn_away()
        self._serve()

    def reinstate(self, key_id: str) -> None:
        """An administrator's word that the key is sound, whatever was seen of it."""
        self._change(key_id, lambda health, _: health.reinstated(), "provider_key_reinstated")

    def credits_back(self, key_id: str) -> None:
        """The account behind the key has money again."""
        self._change(key_id, lambda health, _: health.credits_back(), "provider_key_reinstated")

    def statuses(self) -> list[KeyStatus]:
        """The state of each configured key."""
        return [state.state for state in self.states()]

    def all_keys(self) -> list[ProviderKey]:
        """Whatever their state: their accounts have books all the same."""
        return [lane.pooled.key for lane in self._lanes.values()]

    def states(self) -> list[KeyState]:
        """Each configured key, in the order of configuration."""
        now_s = self._clock()
        return [lane.state(now_s) for lane in self._lanes.values() if not lane.removed]

    def waiting_for_credits(self) -> list[ProviderKey]:
        """The keys that `credits_back` would bring back."""
        out = KeyStatus.OUT_OF_CREDITS
        return [lane.pooled.key for lane in self._lanes.values() if not lane.removed and lane.health.status is out]

    async def _acquire(self, excluded: frozenset[str], timeout_s: float) -> Grant:
        self._check(excluded, timeout_s)
        waiter = Waiter(excluded, self._clock() + timeout_s, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._serve()
        if waiter.granted.done():
            return waiter.granted.result()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._granted(waiter)
        except TimeoutError as exc:
            raise self._hopeless(excluded, 0) or every_key_busy() from exc

    async def _granted(self, waiter: Waiter) -> Grant:
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self._release(waiter.granted.result())  # the slot was handed over as we were leaving
            raise

    def _release(self, grant: Grant) -> None:
        grant.lane.busy -= 1
        if grant.probe:
            grant.lane.probing = False
        self._drop_removed()
        self._serve()

    def _serve(self) -> None:
        """Give every free slot to the longest waiter that may use it."""
        now_s = self._clock()
        for waiter in list(self._waiters):
            free = self._free_lanes(now_s)
            if not free:
                break
            # A waiter cancelled this instant still stands in the queue until it runs: it takes nothing.
            open_to_it = [lane for lane in free if lane.id not in waiter.excluded]
            if open_to_it and not waiter.granted.done():
                best = min(open_to_it, key=lambda lane: lane.rank_at(now_s))
                self._waiters.remove(waiter)
                waiter.granted.set_result(self._take(best, now_s))
        self._set_timer(now_s)

    def _turn_away(self) -> None:
        """Waiters that a change has left without hope."""
        now_s = self._clock()
        for waiter in list(self._waiters):
            refusal = self._hopeless(waiter.excluded, max(0.0, waiter.deadline_s - now_s))
            if refusal and not waiter.granted.done():
                self._waiters.remove(waiter)
                waiter.granted.set_exception(refusal)

    def _take(self, lane: Lane, now_s: float) -> Grant:
        lane.busy += 1
        lane.served += 1
        probe = lane.status_at(now_s) is KeyStatus.HALF_OPEN
        lane.probing = lane.probing or probe
        return Grant(lane, lane.pooled.key, probe)

    def _free_lanes(self, now_s: float) -> list[Lane]:
        """With room, and in health or to be tried again."""
        wanted = {KeyStatus.HEALTHY}
        if not any(lane.probing for lane in self._lanes.values()):
            wanted.add(KeyStatus.HALF_OPEN)
        free = [lane for lane in self._lanes.values() if lane.has_room and not lane.removed]
        return [lane for lane in free if lane.status_at(now_s) in wanted]

    def _open_to(self, excluded: frozenset[str]) -> list[Lane]:
        return [lane for lane in self._lanes.values() if not lane.removed and lane.id not in excluded]

    def _check(self, excluded: frozenset[str], patience_s: float) -> None:
        if refusal := self._hopeless(excluded, patience_s):
            raise refusal

    def _hopeless(self, excluded: frozenset[str], patience_s: float) -> ProviderUnavailable | None:
        now_s = self._clock()
        lanes = self._open_to(excluded)
        if any(lane.worth_waiting_for(now_s, patience_s) for lane in lanes):
            return None
        if lanes:
            return no_key_usable(self.provider, [lane.state(now_s) for lane in lanes])
        return every_key_refused() if self._open_to(frozenset()) else no_key_configured()

    def _set_timer(self, now_s: float) -> None:
        """Wake up when the next cool-down or open circuit ends, if anybody waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delays_s = [s for lane in self._lanes.values() if (s := lane.opens_in_s(now_s))]
        if self._waiters and delays_s:
            self._timer = self._waiters[0].granted.get_loop().call_later(min(delays_s), self._serve)

    def _drop_removed(self) -> None:
        self._lanes = {lane.id: lane for lane in self._lanes.values() if lane.busy or not lane.removed}

    def _status(self, lane: Lane) -> KeyStatus:
        return lane.status_at(self._clock())

    def _judge(self, key_id: str, outcome: Callable[[KeyHealth, float], KeyHealth]) -> None:
        if self._follows_health:
            self._change(key_id, outcome, "provider_key_circuit_closed")

    def _change(self, key_id: str, outcome: Callable[[KeyHealth, float], KeyHealth], mended: Mended) -> None:
        if lane := self._lanes.get(key_id):
            self._set_health(lane, outcome(lane.health, self._clock()), mended)
            self._turn_away()
            self._serve()

    def _set_health(self, lane: Lane, health: KeyHealth, mended: Mended) -> None:
        """Every change of state is said once. `mended`: the event of a key that is back."""
        now_s = self._clock()
        before, lane.health = lane.health.status_at(now_s), health
        log_change(self.provider, lane.id, before=before, health=health, now_s=now_s, mended=mended)
