"""Keys for a pool, and calls that take its slots."""

from __future__ import annotations

import asyncio
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
