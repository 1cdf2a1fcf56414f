from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from gateway.errors import ProviderUnavailable
from gateway.providers.base import ProviderKey
from gateway.providers.key_pool import KeyPool, PooledKey


def pooled(id: str, *, weight: float = 1, slots: int = 1) -> PooledKey:  # noqa: A002
    return PooledKey(ProviderKey(id, f"secret-{id}"), weight, slots)


async def hold(pool: KeyPool, stack: AsyncExitStack, *exclude: str) -> str:
    return (await stack.enter_async_context(pool.slot(exclude=exclude, timeout_s=5))).id


async def refusal(pool: KeyPool, *exclude: str, timeout_s: float = 5) -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as refused:
        async with pool.slot(exclude=exclude, timeout_s=timeout_s):
            pass
    return refused.value


async def take_and_note(pool: KeyPool, name: str, taken: list[str], *exclude: str) -> None:
    async with pool.slot(exclude=exclude, timeout_s=30) as key:
        taken.append(f"{name}:{key.id}")


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_are_shared_by_weight() -> None:
    pool = KeyPool([pooled("a", weight=3, slots=100), pooled("b", weight=1, slots=100)])
    async with AsyncExitStack() as stack:
        held = Counter([await hold(pool, stack) for _ in range(40)])
    assert held == {"a": 30, "b": 10}


async def test_a_quiet_gateway_spreads_its_calls_too() -> None:
    pool = KeyPool([pooled("a"), pooled("b")])
    taken: list[str] = []
    for _ in range(4):
        await take_and_note(pool, "", taken)
    assert taken == [":a", ":b", ":a", ":b"]


async def test_a_full_key_is_passed_over() -> None:
    pool = KeyPool([pooled("a", weight=100, slots=1), pooled("b", slots=2)])
    async with AsyncExitStack() as stack:
        assert [await hold(pool, stack) for _ in range(3)] == ["a", "b", "b"]


async def test_an_excluded_key_is_not_given() -> None:
    pool = KeyPool([pooled("a", slots=9), pooled("b", slots=9)])
    async with AsyncExitStack() as stack:
        assert [await hold(pool, stack, "a") for _ in range(3)] == ["b", "b", "b"]


async def test_waiters_are_served_in_order() -> None:
    pool, taken = KeyPool([pooled("a")]), list[str]()
    async with asyncio.TaskGroup() as waiting, pool.slot(timeout_s=5):
        for name in ("first", "second", "third"):
            waiting.create_task(take_and_note(pool, name, taken))
        await settle()
        assert taken == []
    assert taken == ["first:a", "second:a", "third:a"]


async def test_a_freed_slot_goes_to_the_first_waiter_that_may_use_it() -> None:
    pool, taken = KeyPool([pooled("a"), pooled("b")]), list[str]()
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
    pool = KeyPool([pooled("a")])
    async with pool.slot(timeout_s=5):
        refused = await refusal(pool, timeout_s=0.01)
    assert (refused.charged, refused.retry_after_s) == ("no", 1)
    async with pool.slot(timeout_s=5) as key:
        assert key.id == "a"


async def test_a_cancelled_waiter_loses_no_slot() -> None:
    pool, taken = KeyPool([pooled("a")]), list[str]()
    async with pool.slot(timeout_s=5):
        waiting = asyncio.create_task(take_and_note(pool, "", taken))
        await settle()
        waiting.cancel()
    await asyncio.wait({waiting})
    await take_and_note(pool, "next", taken)
    assert taken == ["next:a"]


async def test_a_waiter_cancelled_as_its_slot_arrives_passes_it_on() -> None:
    pool, taken = KeyPool([pooled("a")]), list[str]()
    async with AsyncExitStack() as stack:
        await hold(pool, stack)
        first = asyncio.create_task(take_and_note(pool, "first", taken))
        second = asyncio.create_task(take_and_note(pool, "second", taken))
        await settle()
    first.cancel()  # granted by now, not yet running
    await asyncio.wait({first, second}, timeout=5)
    assert taken == ["second:a"]


async def test_no_key_at_all_says_what_to_do() -> None:
    refused = await refusal(KeyPool([]))
    assert "AIMLAPI_API_KEY" in refused.message
    assert "providers[].api_keys" in refused.message
    assert refused.charged == "no"


async def test_all_keys_excluded_is_refused_at_once() -> None:
    refused = await refusal(KeyPool([pooled("a"), pooled("b")]), "a", "b", timeout_s=3600)
    assert "AIMLAPI_API_KEY" in refused.message
    assert refused.charged == "no"


async def test_a_secret_is_never_shown() -> None:
    assert "secret-a" not in repr(pooled("a"))
