"""What a unit of a model really cost last, where that was above the list: the estimate of the next reservation.

A lesson lapses when the listed price changes. SQL gone: the lessons in memory go on.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.domain.pricing import PriceRule
from gateway.storage.database import insert
from gateway.storage.tables import price_estimates


def load(conn: sa.Connection) -> dict[tuple[str, str], tuple[PriceRule, PriceRule]]:
    """(model, provider) -> the listed rule of that time, and the raised one."""
    found = {}
    for row in conn.execute(sa.select(price_estimates)):
        listed, raised = (PriceRule(row.unit, micro) for micro in (row.listed_micro_usd, row.unit_micro_usd))
        found[(row.model, row.provider)] = (listed, raised)
    return found


def save(conn: sa.Connection, model: str, provider: str, *, listed: PriceRule, raised: PriceRule) -> None:
    row = {
        "unit": listed.unit,
        "listed_micro_usd": listed.unit_micro_usd,
        "unit_micro_usd": raised.unit_micro_usd,
    }
    made = insert(conn, price_estimates).values(model=model, provider=provider, **row)
    conn.execute(made.on_conflict_do_update(index_elements=list(price_estimates.primary_key), set_=row))
