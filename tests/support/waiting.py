"""Waiting for what nobody tells: asks until it is so, and the test's own time limit ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_LONGEST_S = 60.0
_NEWS_S = 3.0


async def until(look: Callable[[], Awaitable[T]]) -> T:
    """The first result of `look` that is true. Raises TimeoutError after a minute."""
    async with asyncio.timeout(_LONGEST_S):
        while not (found := await look()):  # noqa: ASYNC110  (what is looked at tells nobody)
            await asyncio.sleep(0.02)
        return found


async def past_its_news(call: Callable[[], Awaitable[int]]) -> int:
    """How many calls were made, as `call` counts them, until every process has heard of a new key by the table of
    changes. Each looks at it once a second, and reads the key again then: SQL must not go in the middle of that.
    """
    loop = asyncio.get_running_loop()
    made, until_s = 0, loop.time() + _NEWS_S
    while loop.time() < until_s:
        made += await call()
    return made


def until_now(look: Callable[[], T]) -> T:
    """The same where there is no event loop."""
    deadline = time.monotonic() + _LONGEST_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)
    return found
