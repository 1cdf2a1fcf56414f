"""What the pool makes of keys that are refused, rate limited, out of credits or failing."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from gateway.domain.key_health import FAULTS_TO_OPEN, KeyStatus
from gateway.domain.outcome import KeyEffect
from gateway.errors import ProviderUnavailable
from gateway.providers.key_pool import KeyPool
from tests.support.key_pools import hold, pooled, refusal, settle, take_and_note
from tests.support.verdicts import verdict


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def open_circuit(pool: KeyPool, *ids: str) -> None:
    for key_id in ids:
        for _ in range(FAULTS_TO_OPEN):
            pool.failed(key_id, verdict("fault"))


def statuses(pool: KeyPool) -> list[KeyStatus]:
    return [state.state for state in pool.states()]


@pytest.mark.parametrize("effect", ["eject", "await_credits"])
async def test_a_key_that_somebody_has_to_mend_serves_no_more_and_the_others_carry_on(effect: KeyEffect) -> None:
    pool = KeyPool("main", [pooled("a", slots=9), pooled("b", slots=9)])
    pool.failed("a", verdict(effect))
    pool.require_any()
    async with AsyncExitStack() as stack:
        assert [await hold(pool, stack) for _ in range(3)] == ["b", "b", "b"]
    pool.reinstate("a")
    assert statuses(pool) == [KeyStatus.HEALTHY, KeyStatus.HEALTHY]


def test_no_usable_key_is_refused_at_once_with_counts_and_what_to_do() -> None:
    pool = KeyPool("main", [pooled("a"), pooled("b"), pooled("c")])
    for key_id, effect in {"a": "eject", "b": "eject", "c": "await_credits"}.items():
        pool.failed(key_id, verdict(effect))  # type: ignore[arg-type]
    with pytest.raises(ProviderUnavailable) as refused:
        pool.require_any()
    assert "2 refused by the provider" in refused.value.message
    assert "1 out of credits" in refused.value.message
    assert "top up the provider's account, or renew the refused keys" in refused.value.message
    assert (refused.value.retry_after_s, refused.value.charged) == (60, "no")


def test_the_refusal_says_when_the_first_key_may_serve_again() -> None:
    pool = KeyPool("main", [pooled("a"), pooled("b"), pooled("c")], clock=Clock())
    pool.failed("a", verdict("cool", retry_after_s=30))
    open_circuit(pool, "b")
    pool.failed("c", verdict("eject"))
    with pytest.raises(ProviderUnavailable) as refused:
        pool.require_any()
    assert refused.value.retry_after_s == 10


def test_a_short_cool_down_is_no_reason_to_refuse() -> None:
    pool = KeyPool("main", [pooled("a")], clock=Clock())
    pool.failed("a", verdict("cool", retry_after_s=5))
    pool.require_any()
    pool.failed("a", verdict("cool", retry_after_s=5.1))
    with pytest.raises(ProviderUnavailable):
        pool.require_any()


async def test_a_waiter_is_woken_when_a_cool_down_ends() -> None:
    pool, taken = KeyPool("main", [pooled("a")]), list[str]()
    pool.failed("a", verdict("cool", retry_after_s=0.02))
    await take_and_note(pool, "first", taken)
    assert taken == ["first:a"]


async def test_a_cool_down_longer_than_the_caller_waits_is_refused_at_once() -> None:
    pool = KeyPool("main", [pooled("a"), pooled("b")], clock=Clock())
    pool.failed("a", verdict("cool", retry_after_s=4))
    assert (await refusal(pool, "b", timeout_s=3)).retry_after_s == 4
    pool.failed("a", verdict("cool", retry_after_s=600))
    assert (await refusal(pool, "b", timeout_s=3600)).retry_after_s == 600


async def test_waiters_left_without_hope_are_refused_at_once() -> None:
    pool = KeyPool("main", [pooled("a"), pooled("b")])
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await hold(pool, stack)
        waiting = asyncio.create_task(refusal(pool, timeout_s=3600))
        await settle()
        pool.failed("a", verdict("eject"))
        await settle()
        assert not waiting.done()
        pool.failed("b", verdict("await_credits"))
        assert "1 out of credits, 1 refused" in (await waiting).message


async def test_one_call_in_the_whole_pool_tries_after_an_open_circuit() -> None:
    clock, taken = Clock(), list[str]()
    pool = KeyPool("main", [pooled("a", slots=9), pooled("b", slots=9)], clock=clock)
    open_circuit(pool, "a", "b")
    clock.now_s += 10
    assert statuses(pool) == [KeyStatus.HALF_OPEN] * 2
    async with asyncio.TaskGroup() as waiting, pool.slot(timeout_s=5) as probe:
        for name in ("first", "second"):
            waiting.create_task(take_and_note(pool, name, taken))
        await settle()
        assert taken == []
        pool.succeeded(probe.id)
        await settle()
        assert taken == ["first:a", "second:a"]  # the other key's turn to be tried comes when this call has ended


async def test_a_bad_probe_opens_the_circuit_again_and_who_waits_is_refused() -> None:
    clock = Clock()
    pool = KeyPool("main", [pooled("a", slots=9)], clock=clock)
    open_circuit(pool, "a")
    clock.now_s += 10
    async with pool.slot(timeout_s=5):
        waiting = asyncio.create_task(refusal(pool, timeout_s=3600))
        await settle()
        pool.failed("a", verdict("fault"))
        assert (await waiting).retry_after_s == 20
    assert statuses(pool) == [KeyStatus.CIRCUIT_OPEN]


async def test_a_cancelled_probe_frees_its_place() -> None:
    clock, taken = Clock(), list[str]()
    pool = KeyPool("main", [pooled("a", slots=9)], clock=clock)
    open_circuit(pool, "a")
    clock.now_s += 10

    async def probe_for_ever() -> None:
        async with pool.slot(timeout_s=5):
            await asyncio.Event().wait()

    probing = asyncio.create_task(probe_for_ever())
    await settle()
    waiting = asyncio.create_task(take_and_note(pool, "next", taken))
    await settle()
    assert taken == []
    probing.cancel()
    await asyncio.wait({probing, waiting})
    assert (taken, statuses(pool)) == (["next:a"], [KeyStatus.HALF_OPEN])


async def test_a_late_failure_from_before_the_circuit_opened_is_not_the_probes() -> None:
    clock = Clock()
    pool = KeyPool("main", [pooled("a", slots=9)], clock=clock)
    open_circuit(pool, "a")
    clock.now_s += 10
    pool.failed("a", verdict("fault"))
    assert statuses(pool) == [KeyStatus.HALF_OPEN]


async def test_who_may_not_use_the_key_to_be_tried_gets_another() -> None:
    clock = Clock()
    pool = KeyPool("main", [pooled("a"), pooled("b")], clock=clock)
    open_circuit(pool, "a")
    clock.now_s += 10
    async with AsyncExitStack() as stack:
        assert [await hold(pool, stack, "a"), await hold(pool, stack)] == ["b", "a"]


def test_credits_that_are_back_are_asked_for_by_key() -> None:
    pool = KeyPool("main", [pooled("a"), pooled("b")])
    pool.failed("b", verdict("await_credits"))
    assert [key.id for key in pool.waiting_for_credits()] == ["b"]
    pool.credits_back("b")
    assert (pool.waiting_for_credits(), statuses(pool)[1]) == ([], KeyStatus.HEALTHY)


def test_each_change_is_said_once_and_never_with_a_secret() -> None:
    clock = Clock()
    pool = KeyPool("main", [pooled("a"), pooled("b"), pooled("c")], clock=clock)
    with capture_logs() as lines:
        for _ in range(3):
            pool.failed("a", verdict("cool", retry_after_s=7))
            pool.failed("b", verdict("eject"))
        open_circuit(pool, "c")
        clock.now_s += 10
        pool.succeeded("c")
        pool.failed("c", verdict("await_credits"))
        pool.credits_back("c")
        pool.reinstate("b")
        pool.succeeded("nobody")
    assert [(line["event"].removeprefix("provider_key_"), line["key_id"]) for line in lines] == [
        *(("cooling", "a"), ("ejected", "b"), ("circuit_opened", "c"), ("circuit_closed", "c")),
        *(("out_of_credits", "c"), ("reinstated", "c"), ("reinstated", "b")),
    ]
    assert (lines[0]["provider"], lines[0]["reason"], lines[0]["for_s"]) == ("main", "rate_limited", 7)
    assert "secret" not in str(lines)


def test_a_pool_that_does_not_follow_health_serves_whatever_happens() -> None:
    pool = KeyPool("sandbox", [pooled("a")], follows_health=False)
    open_circuit(pool, "a")
    pool.failed("a", verdict("eject"))
    assert statuses(pool) == [KeyStatus.HEALTHY]
