"""How many processes share the work: what a limit is divided by where they can't ask each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from gateway.errors import LedgerUnavailable, reason_of
from gateway.storage import replicas
from gateway.storage.database import Database

_PERIOD_S = 5.0
_log = structlog.get_logger(__name__)


class ReplicaCount:
    """Beats for this process, and tells `share` how many there are."""

    def __init__(
        self,
        database: Database,
        *,
        process_id: str,
        share: Callable[[int], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._process_id = process_id
        self._share = share
        self._sleep = sleep

    async def beat(self) -> None:
        """Raises LedgerUnavailable; the last count holds then."""
        self._share(max(1, await self._database.write(lambda conn: replicas.beat(conn, self._process_id))))

    async def run(self) -> None:
        """For ever, after the first heartbeat."""
        while True:
            await self._sleep(_PERIOD_S)
            try:
                await self.beat()
            except LedgerUnavailable as exc:
                _log.debug("replicas_not_counted", reason=reason_of(exc))
            except Exception:  # noqa: BLE001  (whatever it was, the next heartbeat is due)
                _log.exception("heartbeat_failed")

    async def leave(self) -> None:
        with suppress(LedgerUnavailable):
            await self._database.write(lambda conn: replicas.leave(conn, self._process_id))
