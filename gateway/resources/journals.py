"""How rows of the journal reach SQL."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.usage_row import UsageRow
from gateway.storage import usage_log
from gateway.storage.database import Database
from gateway.storage.journal import Deliver


def delivery(database: Database) -> Deliver:
    async def deliver(rows: Sequence[UsageRow]) -> None:
        await database.write(lambda conn: usage_log.add(conn, rows))

    return deliver
