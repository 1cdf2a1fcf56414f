"""What must be true of the books, as SQL: `darkroom doctor` looks, and so do the tests.

Each function looks at everything; at millions of rows it takes a while and blocks nobody but one reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.storage.counters import wrong_counters
from gateway.storage.database import now_ms
from gateway.storage.tables import (
    UNDER_WAY,
    adjustments,
    cache_entries,
    generations,
    holds,
    idempotency_keys,
    images,
    usage_hourly,
    usage_log,
)

_STALE_MS = 5 * 60 * 1000
_SHOWN = 5
_g = generations.c


@dataclass(frozen=True, slots=True)
class Finding:
    """`wrong`: what breaks the rule, the first few of them; empty when it holds."""

    rule: str
    wrong: Sequence[str]
    count: int


def examine(conn: sa.Connection) -> list[Finding]:
    """Every rule, whether it holds or not."""
    return [_finding(conn, rule, look) for rule, look in _RULES.items()]


def _finding(conn: sa.Connection, rule: str, look: Callable[[sa.Connection], Sequence[str]]) -> Finding:
    wrong = look(conn)
    return Finding(rule, wrong[:_SHOWN], len(wrong))


def _ids(conn: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[str]:
    return list(conn.execute(sa.select(_g.id).where(*conditions).order_by(_g.created_ms)).scalars())


def _without_cost(conn: sa.Connection) -> list[str]:
    settled = _g.status.in_(("answered", "succeeded", "failed"))
    return _ids(conn, sa.or_(sa.and_(settled, _g.cost_micro_usd.is_(None)), sa.and_(~settled, _g.cost_micro_usd >= 0)))


def _stale(conn: sa.Connection) -> list[str]:
    return _ids(conn, _g.status.in_(UNDER_WAY), _g.lease_until_ms < now_ms(conn) - _STALE_MS)


def _held_after_settlement(conn: sa.Connection) -> list[str]:
    held = sa.select(holds.c.generation_id).where(holds.c.generation_id == _g.id).exists()
    return _ids(conn, _g.status.in_(("answered", "succeeded", "failed")), held)


def _wrongly_adjusted(conn: sa.Connection) -> list[str]:
    posted = sa.func.coalesce(
        sa.select(sa.func.sum(adjustments.c.amount_micro_usd))
        .where(adjustments.c.generation_id == _g.id)
        .scalar_subquery(),
        0,
    )
    concerned = sa.or_(_g.adjusted_micro_usd != 0, _g.id.in_(sa.select(adjustments.c.generation_id)))
    return _ids(conn, concerned, _g.adjusted_micro_usd != posted)


def _report(conn: sa.Connection) -> list[str]:
    """Reports and purchases agree to the micro-dollar. What a paid picture that is still fetched cost may be in one of
    them; corrections are in both.
    """
    total = sa.func.coalesce(sa.func.sum(usage_hourly.c.cost_micro_usd), 0)
    is_over = _g.status.in_(("succeeded", "failed"))
    settled = _g.adjusted_micro_usd + sa.case((is_over, _g.cost_micro_usd), else_=0)
    certain = sa.func.coalesce(sa.func.sum(settled), 0)
    under_way = sa.func.coalesce(sa.func.sum(sa.case((_g.status == "answered", _g.cost_micro_usd), else_=0)), 0)
    wrong = []
    for mode in conn.execute(sa.select(_g.mode).distinct()).scalars():
        reported = int(conn.execute(sa.select(total).where(usage_hourly.c.mode == mode)).scalar_one())
        low, open_amount = map(int, conn.execute(sa.select(certain, under_way).where(_g.mode == mode)).one())
        if not low <= reported <= low + open_amount:
            wrong.append(f"{mode}: reports say {reported}, purchases {low} micro-dollars")
    return wrong


def _bought_without_row(conn: sa.Connection) -> list[str]:
    """Of those since the oldest row of the usage log, which retention may have cut.

    What was reserved and never sent is no purchase: when the answer to that commit is lost, its call is in the log as
    refused, and recovery finds and releases it.
    """
    oldest = sa.select(sa.func.min(usage_log.c.at_ms)).scalar_subquery()
    its_own = (
        usage_log.c.generation_id == _g.id,
        usage_log.c.outcome != sa.literal_column("'hit'"),
    )  # what the index holds
    row = sa.select(usage_log.c.id).where(*its_own).exists()
    was_sent = _g.sent_ms.is_not(None)
    return _ids(conn, _g.status.in_(("succeeded", "failed")), was_sent, _g.created_ms > oldest, ~row)


def _entries_without_pictures(conn: sa.Connection) -> list[str]:
    c = cache_entries.c
    shown = sa.select(images.c.id).where(images.c.generation_id == c.generation_id, images.c.removed_ms.is_(None))
    return list(conn.execute(sa.select(c.fingerprint).where(~shown.exists())).scalars())


def _claims_of_nothing(conn: sa.Connection) -> list[str]:
    c = idempotency_keys.c
    there = sa.select(_g.id).where(_g.id == c.generation_id).exists()
    return list(conn.execute(sa.select(c.generation_id).where(~there)).scalars())


def pictures_to_find(conn: sa.Connection, *, limit: int) -> list[str]:
    """The SHA-256 of pictures that must be in the image store, the newest first."""
    found = sa.select(images.c.sha256).where(images.c.removed_ms.is_(None)).order_by(images.c.created_ms.desc())
    return list(conn.execute(found.limit(limit)).scalars())


_RULES: dict[str, Callable[[sa.Connection], Sequence[str]]] = {
    "each counter holds and spent what its purchases say": wrong_counters,
    "what is settled has a cost, and nothing else has": _without_cost,
    "what is settled holds nothing": _held_after_settlement,
    "no purchase is left alone": _stale,
    "corrections add up to their adjustments": _wrongly_adjusted,
    "reports and purchases agree": _report,
    "each purchase is in the usage log": _bought_without_row,
    "each cache entry has its pictures": _entries_without_pictures,
    "each idempotency key belongs to a purchase": _claims_of_nothing,
}
