"""A pause that something may end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Sleep = Callable[[float], Awaitable[None]]


async def pause(seconds: float, *, unless: asyncio.Event, sleep: Sleep) -> None:
    """Until the time is over, or the event is set."""
    ends = [asyncio.ensure_future(sleep(seconds)), asyncio.ensure_future(unless.wait())]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
