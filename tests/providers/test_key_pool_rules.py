"""The pool under any interleaving of calls, outcomes, cancellations, time and changes of its keys."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from gateway.domain.key_health import FAULTS_TO_OPEN, KeyStatus
from gateway.domain.outcome import KeyEffect
from gateway.errors import ProviderUnavailable
from gateway.providers.base import ProviderKey
from gateway.providers.key_lane import LONGEST_COOL_DOWN_WAIT_S
from gateway.providers.key_pool import KeyPool, PooledKey
from tests.support.verdicts import verdict
from tests.support.virtual_time import VirtualLoop

IDS = ["a", "b", "c"]
SLOTS = {"a": 1, "b": 2, "c": 3}
TIMEOUT_S = 30.0
Effects = st.sampled_from(["sound", "cool", "eject", "await_credits", "fault"])
Keys = st.sets(st.sampled_from(IDS), min_size=1)


def pooled(ids: set[str], disabled: str | None = None) -> list[PooledKey]:
    keys = sorted(ids)
    return [PooledKey(ProviderKey(id, f"secret-{id}"), 1, SLOTS[id], disabled=id == disabled) for id in keys]  # noqa: A001


@dataclass(eq=False)
class Call:
    """A task in front of a slot or inside one. `ends`: the outcome it is to report."""

    excluded: set[str]
    ends: asyncio.Future[KeyEffect]
    task: asyncio.Task[None] | None = None
    key_id: str | None = None
    probe: bool = False
    refused: bool = False


@dataclass
class House:
    pool: KeyPool
    loop: VirtualLoop
    calls: list[Call] = field(default_factory=list)

    def status(self, key_id: str) -> KeyStatus | None:
        return next((state.state for state in self.pool.states() if state.id == key_id), None)

    async def run(self, call: Call) -> None:
        try:
            async with self.pool.slot(exclude=call.excluded, timeout_s=TIMEOUT_S) as key:
                call.key_id = key.id
                call.probe = self.status(key.id) is KeyStatus.HALF_OPEN
                effect = await call.ends
                if effect == "sound":
                    self.pool.succeeded(key.id)
                else:
                    self.pool.failed(key.id, verdict(effect))
        except ProviderUnavailable:
            call.refused = True
        finally:
            self.calls.remove(call)

    @property
    def inside(self) -> list[Call]:
        return [call for call in self.calls if call.key_id]

    @property
    def waiting(self) -> list[Call]:
        return [call for call in self.calls if not call.key_id]


class PoolMachine(RuleBasedStateMachine):
    @initialize(ids=Keys)
    def open(self, ids: set[str]) -> None:
        self.logs = capture_logs()
        self.logs.__enter__()
        loop = VirtualLoop()
        self.house = House(KeyPool("main", pooled(ids), clock=loop.time), loop)

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        for call in list(self.house.calls):
            self.cancel(call)
        self.house.loop.settle()
        assert all(state.busy == 0 for state in self.house.pool.states())
        self.house.loop.close()
        self.logs.__exit__(None, None, None)

    @staticmethod
    def cancel(call: Call) -> None:
        assert call.task is not None
        call.task.cancel()

    @rule(excluded=st.sets(st.sampled_from(IDS), max_size=1), count=st.integers(1, 4))
    def call(self, excluded: set[str], count: int) -> None:
        house = self.house
        for _ in range(count):
            call = Call(excluded, house.loop.create_future())
            house.calls.append(call)
            call.task = house.loop.create_task(house.run(call))
        house.loop.settle()

    @precondition(lambda self: self.house.inside)
    @rule(data=st.data(), effect=Effects, settles=st.booleans())
    def end(self, data: st.DataObject, effect: KeyEffect, settles: bool) -> None:
        open_ends = [call for call in self.house.inside if not call.ends.done()]
        if open_ends:
            data.draw(st.sampled_from(open_ends)).ends.set_result(effect)
        if settles:
            self.house.loop.settle()

    @precondition(lambda self: self.house.calls)
    @rule(data=st.data(), count=st.integers(1, 3))
    def leave(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):  # not settled in between: slots handed over to those who are just leaving
            self.cancel(data.draw(st.sampled_from(self.house.calls)))
        self.house.loop.settle()

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0, 60.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.house.loop.advance(seconds)

    @rule(key_id=st.sampled_from(IDS), effect=Effects)
    def late_outcome(self, key_id: str, effect: KeyEffect) -> None:
        """Of a call that left its slot before it told."""
        if self.house.status(key_id) is not KeyStatus.HALF_OPEN:
            self.house.pool.failed(key_id, verdict(effect))
            self.house.loop.settle()

    @rule(key_ids=Keys)
    def outage(self, key_ids: set[str]) -> None:
        """The circuits open, and rest for as long as they ever do."""
        for key_id in sorted(key_ids):
            for _ in range(FAULTS_TO_OPEN):
                self.house.pool.failed(key_id, verdict("fault"))
        self.house.loop.advance(120)

    @rule(key_id=st.sampled_from(IDS))
    def mend(self, key_id: str) -> None:
        self.house.pool.reinstate(key_id)
        self.house.pool.credits_back(key_id)
        self.house.loop.settle()

    @rule(ids=Keys, disabled=st.none() | st.sampled_from(IDS))
    def configure(self, ids: set[str], disabled: str | None) -> None:
        self.house.pool.replace(pooled(ids, disabled))
        self.house.loop.settle()

    @invariant()
    def no_key_serves_more_than_it_may(self) -> None:
        self.house.loop.settle()
        busy = Counter(call.key_id for call in self.house.inside)
        assert all(busy[key_id] <= slots for key_id, slots in SLOTS.items())
        assert all(state.busy == busy[state.id] for state in self.house.pool.states())

    @invariant()
    def there_is_one_probe_at_most(self) -> None:
        resting = KeyStatus.HALF_OPEN
        probes = [call for call in self.house.inside if call.probe and self.house.status(call.key_id or "") is resting]
        assert len(probes) <= 1

    @invariant()
    def nobody_waits_for_nothing_or_beside_a_free_slot(self) -> None:
        self.house.loop.settle()
        may_probe = not any(call.probe for call in self.house.inside)
        for call in self.house.waiting:
            states = [state for state in self.house.pool.states() if state.id not in call.excluded]
            usable = {KeyStatus.HEALTHY, KeyStatus.HALF_OPEN} if may_probe else {KeyStatus.HEALTHY}
            assert not [state for state in states if state.state in usable and state.busy < state.max_concurrency]
            assert any(state.until_s is None or state.until_s <= LONGEST_COOL_DOWN_WAIT_S for state in states)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
