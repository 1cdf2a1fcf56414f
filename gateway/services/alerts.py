"""Alerts: limits are looked at every few seconds, and webhooks are told once of each share that is reached.

What is reserved does not count: it may come back. A limit whose amount is changed is told of anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from gateway.domain.limits import DefaultLimit
from gateway.errors import LedgerUnavailable, reason_of
from gateway.storage import alerts, webhooks
from gateway.storage.alerts import Alert
from gateway.storage.database import Database
from gateway.storage.paging import Page

_PERIOD_S = 5.0
_log = structlog.get_logger(__name__)


class Alerts:
    """`defaults`: the limits of every user. `told`: called when there is something to deliver."""

    def __init__(
        self,
        database: Database,
        defaults: Sequence[DefaultLimit],
        *,
        told: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._defaults = tuple(defaults)
        self._told = told
        self._sleep = sleep

    async def run(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            try:
                await self.check()
            except LedgerUnavailable as exc:
                _log.warning("alerts_wait", reason=reason_of(exc))
            except Exception:  # noqa: BLE001  (whatever it was, the next round is owed its turn)
                _log.exception("alerts_failed")
            await self._sleep(_PERIOD_S)

    async def check(self) -> int:
        """One look at all limits that are told. Returns how many new shares were reached.

        To look takes no lock; what is found is written, with what is to be delivered, in one transaction.
        """
        found = await self._database.read(lambda conn: alerts.new_crossings(conn, self._defaults))
        if not found:
            return 0

        def work(conn: sa.Connection) -> list[str]:
            made = alerts.record(conn, found)
            webhooks.add_deliveries(conn, made)
            return made

        made = await self._database.write(work)
        if made:
            _log.info("limits_reached", alerts=len(made))
            self._told()
        return len(made)

    async def list(self, **filters: Any) -> Page[Alert]:
        """Newest first; `filters` are those of `storage.alerts.list_alerts`. Raises InvalidRequest."""
        return await self._database.read(lambda conn: alerts.list_alerts(conn, **filters))
