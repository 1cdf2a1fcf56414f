"""Waiting for what nobody tells: asks until it is so, and the test's own time limit ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_LONGEST_S = 60.0


async def until(look: Callable[[], Awaitable[T]]) -> T:
    """The first result of `look` that is true. Raises TimeoutError after a minute."""
    async with asyncio.timeout(_LONGEST_S):
        while not (found := await look()):  # noqa: ASYNC110  (what is looked at tells nobody)
            await asyncio.sleep(0.02)
        return found


def until_now(look: Callable[[], T]) -> T:
    """The same where there is no event loop."""
    deadline = time.monotonic() + _LONGEST_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
    return found
