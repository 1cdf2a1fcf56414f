from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from contextlib import AsyncExitStack

from gateway.domain.key_health import KeyStatus
from gateway.providers.base import ProviderKey
from gateway.providers.key_pool import KeyPool, PooledKey
from tests.support.key_pools import hold, pooled, refusal, settle, take_and_note
from tests.support.verdicts import verdict


async def test_calls_are_shared_by_weight() -> None:
    pool = KeyPool("main", [pooled("a", weight=3, slots=100), pooled("b", weight=1, slots=100)])
    async with AsyncExitStack() as stack:
        held = Counter([await hold(pool, stack) for _ in range(40)])
    assert held == {"a": 30, "b": 10}


async def test_a_quiet_gateway_spreads_its_calls_too() -> None:
    pool = KeyPool("main", [pooled("a"), pooled("b")])
    taken: list[str] = []
    for _ in range(4):
        await take_and_note(pool, "", taken)
    assert taken == [":a", ":b", ":a", ":b"]


async def test_a_full_key_is_passed_over() -> None:
    pool = KeyPool("main", [pooled("a", weight=100, slots=1), pooled("b", slots=2)])
    async with AsyncExitStack() as stack:
        assert [await hold(pool, stack) for _ in range(3)] == ["a", "b", "b"]


async def test_an_excluded_key_is_not_given() -> None:
    pool = KeyPool("main", [pooled("a", slots=9), pooled("b", slots=9)])
    async with AsyncExitStack() as stack:
        assert [await hold(pool, stack, "a") for _ in range(3)] == ["b", "b", "b"]


async def test_waiters_are_served_in_order() -> None:
    pool, taken = KeyPool("main", [pooled("a")]), list[str]()
    async with asyncio.TaskGroup() as waiting, pool.slot(timeout_s=5):
        for name in ("first", "second", "third"):
            waiting.create_task(take_and_note(pool, name, taken))
        await settle()
        assert taken == []
    assert taken == ["first:a", "second:a", "third:a"]


async def test_a_freed_slot_goes_to_the_first_waiter_that_may_use_it() -> None:
    pool, taken = KeyPool("main", [pooled("a"), pooled("b")]), list[str]()
    async with asyncio.TaskGroup() as waiting, pool.slot(exclude=["a"], timeout_s=5):
        async with pool.slot(timeout_s=5):
            waiting.create_task(take_and_note(pool, "not-a", taken, "a"))
            await settle()
            waiting.create_task(take_and_note(pool, "any", taken))
            await settle()
        await settle()
        assert taken == ["any:a"]
    assert taken == ["any:a", "not-a:b"]


async def test_a_time_out_says_when_to_come_back_and_loses_no_slot() -> None:
    pool = KeyPool("main", [pooled("a")])
    async with pool.slot(timeout_s=5):
        refused = await refusal(pool, timeout_s=0.01)
    assert (refused.charged, refused.retry_after_s) == ("no", 1)
    async with pool.slot(timeout_s=5) as key:
        assert key.id == "a"


async def test_a_cancelled_waiter_loses_no_slot() -> None:
    pool, taken = KeyPool("main", [pooled("a")]), list[str]()
    async with pool.slot(timeout_s=5):
        waiting = asyncio.create_task(take_and_note(pool, "", taken))
        await settle()
        waiting.cancel()
    await asyncio.wait({waiting})
    await take_and_note(pool, "next", taken)
    assert taken == ["next:a"]


async def test_a_waiter_cancelled_as_its_slot_arrives_passes_it_on() -> None:
    pool, taken = KeyPool("main", [pooled("a")]), list[str]()
    async with AsyncExitStack() as stack:
        await hold(pool, stack)
        first = asyncio.create_task(take_and_note(pool, "first", taken))
        second = asyncio.create_task(take_and_note(pool, "second", taken))
        await settle()
    first.cancel()  # granted by now, not yet running
    await asyncio.wait({first, second}, timeout=5)
    assert taken == ["second:a"]


async def test_no_key_at_all_says_what_to_do() -> None:
    refused = await refusal(KeyPool("main", []))
    assert "AIMLAPI_API_KEY" in refused.message
    assert "providers[].api_keys" in refused.message
    assert refused.charged == "no"


async def test_all_keys_excluded_is_refused_at_once() -> None:
    refused = await refusal(KeyPool("main", [pooled("a"), pooled("b")]), "a", "b", timeout_s=3600)
    assert "AIMLAPI_API_KEY" in refused.message
    assert refused.charged == "no"


async def test_a_secret_is_never_shown() -> None:
    assert "secret-a" not in repr(pooled("a"))


async def test_keys_that_are_replaced_serve_who_waits_and_finish_their_calls() -> None:
    pool, taken = KeyPool("main", [pooled("a")]), list[str]()
    async with asyncio.TaskGroup() as waiting, pool.slot(timeout_s=5):
        waiting.create_task(take_and_note(pool, "first", taken))
        await settle()
        pool.replace([pooled("b")])
        await settle()
        assert taken == ["first:b"]
        pool.replace([pooled("a"), pooled("b")])  # back, with its call still under way
        assert [state.busy for state in pool.states()] == [1, 0]
    assert [state.busy for state in pool.states()] == [0, 0]


async def test_waiters_whose_last_key_is_taken_away_are_refused_at_once() -> None:
    pool = KeyPool("main", [pooled("a")])
    async with pool.slot(timeout_s=5):
        waiting = asyncio.create_task(refusal(pool, timeout_s=3600))
        await settle()
        pool.replace([dataclasses.replace(pooled("a"), disabled=True)])
        refused = await waiting
    assert ("1 disabled" in refused.message, refused.retry_after_s) == (True, None)


async def test_a_new_secret_is_a_new_start_and_the_old_one_ends_its_call() -> None:
    pool = KeyPool("main", [pooled("a")])
    async with pool.slot(timeout_s=5) as key:
        pool.failed("a", verdict("eject"))
        pool.replace([pooled("a", slots=2)])
        assert pool.states()[0].state is KeyStatus.EJECTED
        pool.replace([PooledKey(ProviderKey("a", "another"), 1, 2)])
        assert (key.secret, pool.states()[0].state, pool.states()[0].busy) == ("secret-a", KeyStatus.HEALTHY, 1)


async def test_the_budget_allows_a_tenth_more_attempts() -> None:
    pool = KeyPool("main", [])
    assert not pool.may_retry()
    for _ in range(21):
        pool.begin()
    assert [pool.may_retry() for _ in range(4)] == [True, True, True, False]
