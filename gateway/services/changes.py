"""Memory follows SQL: a poll of `changes` every second tells whoever holds something what to forget.

Notices tell the other processes sooner; this poll is what makes it certain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import structlog

from gateway.errors import LedgerUnavailable, reason_of
from gateway.services.clock import clock
from gateway.storage import changes
from gateway.storage.database import Database

Forget = Callable[[str, str], None]
"""Called with the kind and id of what changed; must not block."""

_GAP_MS = 3600 * 1000
_PRUNE_EVERY_MS = 3600 * 1000
_log = structlog.get_logger(__name__)


class _Listener(NamedTuple):
    forget: Forget
    forget_all: Callable[[], None]


class ChangeFollower:
    """Calls its listeners for every change; twice when a notice told of it before the poll did.

    While polls fail, memory keeps serving what it holds. At the first good poll, and at one after more than
    an hour without, everything is forgotten: what happened before is not told by the changes.
    """

    def __init__(self, database: Database, *, tell: Forget = lambda _kind, _id: None, interval_s: float = 1.0) -> None:
        """`tell` passes a change of this process on to the others."""
        self._database = database
        self._tell = tell
        self._interval_s = interval_s
        self._listeners: list[_Listener] = []
        self._last_ms: int | None = None
        self._seen: frozenset[int] = frozenset()
        self._pruned_ms = 0
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, forget: Forget, *, forget_all: Callable[[], None]) -> None:
        self._listeners.append(_Listener(forget, forget_all))

    def notify(self, kind: str, object_id: str) -> None:
        """A change that this process has made: tells of it at once, here and elsewhere."""
        self.hear(kind, object_id)
        self._tell(kind, object_id)

    def hear(self, kind: str, object_id: str) -> None:
        """A change, whoever made it and however it became known."""
        for listener in self._listeners:
            listener.forget(kind, object_id)

    async def start(self) -> None:
        """The first look is the one that forgets everything: it is over before anything is held.

        Raises LedgerUnavailable.
        """
        await self.poll()
        self._task = asyncio.create_task(self._follow(), name="follow-changes")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def poll(self) -> None:
        """One look at SQL. Raises LedgerUnavailable; the next look then reaches back to the last good one."""
        asked_ms = clock.here_ms()
        look = await self._database.read(lambda conn: changes.look(conn, self._last_ms))
        clock.correct(look.at_ms, asked_ms=asked_ms)
        if self._last_ms is None or look.at_ms - self._last_ms > _GAP_MS:
            for listener in self._listeners:
                listener.forget_all()
        for change in look.changes:
            if change.id not in self._seen:
                self.hear(change.kind, change.object_id)
        self._last_ms = look.at_ms
        self._seen = frozenset(change.id for change in look.changes)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.poll()
                await self._prune()
            except Exception as exc:  # noqa: BLE001  (whatever SQL says, memory must go on following it)
                self._report(exc)
            else:
                self._failing = False

    async def _prune(self) -> None:
        assert self._last_ms is not None
        if self._last_ms - self._pruned_ms > _PRUNE_EVERY_MS:
            await self._database.write(changes.prune)
            self._pruned_ms = self._last_ms

    def _report(self, exc: Exception) -> None:
        """Once for each stretch of failures."""
        if not self._failing:
            expected = isinstance(exc, LedgerUnavailable)
            _log.error("changes_not_followed", reason=reason_of(exc), exc_info=None if expected else exc)
        self._failing = True
