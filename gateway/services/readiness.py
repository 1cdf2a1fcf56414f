"""Whether new calls may come to this process.

SQL gone: they may. Hits that memory or Redis hold are answered, and to whom else would a load balancer send them, when
every replica has lost the same database?
"""

from __future__ import annotations

import asyncio

from gateway.errors import Draining, LedgerUnavailable
from gateway.services.purchases import Purchases
from gateway.storage.database import Database
from gateway.storage.journal import Journal
from gateway.threads import to_thread

_PATIENCE_S = 1.0


class Readiness:
    def __init__(self, purchases: Purchases, journal: Journal, database: Database) -> None:
        self._purchases = purchases
        self._journal = journal
        self._database = database

    async def check(self) -> bool:
        """False: hits alone are served, for SQL does not answer, or is damaged. Raises Draining, and StorageFailed when
        this process can't write down what it serves.
        """
        if self._purchases.leaving:
            raise Draining("The gateway is about to shut down.", retry_after_s=1, charged="no")
        self._purchases.check_open()
        await to_thread(self._journal.check)
        try:
            self._database.check()
            async with asyncio.timeout(_PATIENCE_S):
                await self._database.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one())
        except (LedgerUnavailable, TimeoutError):
            return False
        return True
