"""Waiting for a generation that another process works on, or nobody: told by a notice, found out by a slow poll."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.domain.answer import StoredAnswer
from gateway.storage.pauses import Sleep, pause

_POLL_S = 0.5

Look = Callable[[str], Awaitable[StoredAnswer | None]]
"""The answer of a generation, or None while it is under way. Raises what it ended with."""


class _Followed:
    """One generation, however many wait for it. `told`: something became of it since the last look."""

    __slots__ = ("followers", "outcome", "told")

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.followers = 0
        self.outcome: asyncio.Task[StoredAnswer]


class Following:
    """One look at a time for each generation: a thousand who wait for it ask SQL as often as one."""

    def __init__(self, look: Look, *, sleep: Sleep = asyncio.sleep) -> None:
        self._look = look
        self._sleep = sleep
        self._followed: dict[str, _Followed] = {}

    def __len__(self) -> int:
        return len(self._followed)

    async def __call__(self, generation_id: str) -> StoredAnswer:
        """Wait for it. Raises what `look` raises."""
        followed = self._followed.get(generation_id)
        if followed is None:
            followed = self._followed[generation_id] = _Followed()
            name = f"follow {generation_id}"
            followed.outcome = asyncio.create_task(self._follow(generation_id, followed), name=name)
            followed.outcome.add_done_callback(lambda _: self._forget(generation_id, followed))
        followed.followers += 1
        try:
            return await asyncio.shield(followed.outcome)
        finally:
            followed.followers -= 1
            if not followed.followers:
                followed.outcome.cancel()
                self._forget(generation_id, followed)

    def hear(self, generation_id: str) -> None:
        """Something became of a generation."""
        followed = self._followed.get(generation_id)
        if followed is not None:
            followed.told.set()

    def _forget(self, generation_id: str, followed: _Followed) -> None:
        if self._followed.get(generation_id) is followed:
            del self._followed[generation_id]

    async def _follow(self, generation_id: str, followed: _Followed) -> StoredAnswer:
        while True:
            followed.told.clear()
            answer = await self._look(generation_id)
            if answer is not None:
                return answer
            await pause(_POLL_S, unless=followed.told, sleep=self._sleep)
