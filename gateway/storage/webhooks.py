"""Whom alerts are told, and what became of telling them.

A delivery is taken by moving the time at which it is due: of two replicas one does, and should that one die, it is due
again a minute later. SQL gone: nothing is sent, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from gateway.domain.ids import new_id
from gateway.errors import NotFound
from gateway.storage.database import now_ms
from gateway.storage.paging import Page, filtered, is_id, read_page
from gateway.storage.tables_accounts import deliveries, webhooks

TAKEN_FOR_MS = 60_000
Status = Literal["pending", "delivered", "failed"]
_d, _w = deliveries.c, webhooks.c


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is sealed."""

    id: str
    name: str
    url: str
    secret: str
    created_ms: int
    disabled_ms: int | None = None
    deleted_ms: int | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """`alert_id` None: a test. `next_ms`: when it is due; None: it is over."""

    id: str
    webhook_id: str
    alert_id: str | None
    status: Status
    attempts: int
    next_ms: int | None
    last_status: int | None
    last_error: str | None
    created_ms: int
    delivered_ms: int | None


class Due(NamedTuple):
    """A delivery that was taken, and where it goes."""

    delivery: Delivery
    webhook: Webhook


def place_of(webhook_id: str) -> str:
    """What a secret is bound to when it is sealed."""
    return f"webhooks/{webhook_id}/secret"


def insert(conn: sa.Connection, webhook: Webhook) -> None:
    conn.execute(webhooks.insert().values(msgspec.structs.asdict(webhook)))


def require(conn: sa.Connection, webhook_id: str) -> Webhook:
    """Raises NotFound."""
    row = None
    if is_id(webhook_id):
        there = sa.select(webhooks).where(_w.id == webhook_id, _w.deleted_ms.is_(None))
        row = conn.execute(there).one_or_none()
    if row is None:
        raise NotFound("There is no webhook with this id; `darkroom webhook list` shows them.")
    return msgspec.convert(row, Webhook, from_attributes=True)


def every(conn: sa.Connection) -> list[Webhook]:
    """All that are not deleted, newest first."""
    there = sa.select(webhooks).where(_w.deleted_ms.is_(None)).order_by(_w.created_ms.desc(), _w.id.desc())
    return [msgspec.convert(row, Webhook, from_attributes=True) for row in conn.execute(there)]


def update(conn: sa.Connection, webhook_id: str, values: Mapping[str, Any]) -> Webhook:
    """Raises NotFound."""
    require(conn, webhook_id)
    if values:
        conn.execute(sa.update(webhooks).where(_w.id == webhook_id).values(dict(values)))
    return require(conn, webhook_id)


def delete(conn: sa.Connection, webhook_id: str) -> None:
    """Without its secret; its log stays. Raises NotFound."""
    require(conn, webhook_id)
    conn.execute(sa.update(webhooks).where(_w.id == webhook_id).values(deleted_ms=now_ms(conn), secret=""))


def add_deliveries(conn: sa.Connection, alert_ids: Sequence[str]) -> None:
    """Of each alert one to each webhook that is enabled, due now."""
    now = now_ms(conn)
    enabled = conn.execute(sa.select(_w.id).where(_w.deleted_ms.is_(None), _w.disabled_ms.is_(None))).scalars().all()
    for alert_id in alert_ids:
        for webhook_id in enabled:
            add_delivery(conn, webhook_id, alert_id, now_ms=now, due_ms=now)


def add_delivery(
    conn: sa.Connection, webhook_id: str, alert_id: str | None, *, now_ms: int, due_ms: int | None
) -> Delivery:
    made = Delivery(
        id=new_id("dlv"),
        webhook_id=webhook_id,
        alert_id=alert_id,
        status="pending",
        attempts=0,
        next_ms=due_ms,
        last_status=None,
        last_error=None,
        created_ms=now_ms,
        delivered_ms=None,
    )
    conn.execute(deliveries.insert().values(msgspec.structs.asdict(made)))
    return made


def is_due(conn: sa.Connection, *, now_ms: int) -> bool:
    """Whether there is anything to take: most of the time there is not, and to look takes no lock."""
    return conn.execute(_waiting(now_ms).limit(1)).first() is not None


def _waiting(now_ms: int) -> sa.Select[Any]:
    return sa.select(_d.id, _d.next_ms).where(_d.status == "pending", _d.next_ms <= now_ms)


def take_due(conn: sa.Connection, *, now_ms: int, limit: int) -> list[Due]:
    """Take what is due, the oldest first: nobody else does for a minute."""
    found = conn.execute(_waiting(now_ms).order_by(_d.next_ms, _d.id).limit(limit)).all()
    taken = [row.id for row in found if take(conn, row.id, seen_ms=row.next_ms, now_ms=now_ms)]
    return [due for delivery_id in taken for due in due_of(conn, delivery_id)]


def take(conn: sa.Connection, delivery_id: str, *, seen_ms: int | None, now_ms: int) -> bool:
    """False: somebody else was faster."""
    mine = sa.and_(_d.id == delivery_id, _d.next_ms == seen_ms, _d.status == "pending")
    return conn.execute(sa.update(deliveries).where(mine).values(next_ms=now_ms + TAKEN_FOR_MS)).rowcount == 1


def due_of(conn: sa.Connection, delivery_id: str) -> list[Due]:
    """A delivery with its webhook, deleted or not."""
    delivery = require_delivery(conn, delivery_id)
    found = conn.execute(sa.select(webhooks).where(_w.id == delivery.webhook_id))
    return [Due(delivery, msgspec.convert(row, Webhook, from_attributes=True)) for row in found]


def require_delivery(conn: sa.Connection, delivery_id: str) -> Delivery:
    """Raises NotFound."""
    row = None
    if is_id(delivery_id):
        row = conn.execute(sa.select(deliveries).where(_d.id == delivery_id)).one_or_none()
    if row is None:
        raise NotFound("There is no delivery with this id; `darkroom webhook deliveries` shows them.")
    return msgspec.convert(row, Delivery, from_attributes=True)


def update_delivery(conn: sa.Connection, delivery_id: str, values: Mapping[str, Any]) -> Delivery:
    """Raises NotFound."""
    conn.execute(sa.update(deliveries).where(_d.id == delivery_id).values(dict(values)))
    return require_delivery(conn, delivery_id)


def delete_before(conn: sa.Connection, before_ms: int, *, limit: int) -> int:
    """Up to `limit` deliveries that were made before that and are over, the oldest first. Returns how many."""
    old = sa.select(_d.id).where(_d.created_ms < before_ms, _d.status != "pending").order_by(_d.created_ms).limit(limit)
    return conn.execute(sa.delete(deliveries).where(_d.id.in_(old.scalar_subquery()))).rowcount


def list_deliveries(
    conn: sa.Connection,
    *,
    webhook_id: str | None = None,
    status: str | None = None,
    limit: int,
    cursor: str | None = None,
) -> Page[Delivery]:
    """Newest first."""
    query = filtered(sa.select(deliveries), {_d.webhook_id: webhook_id, _d.status: status})
    convert = lambda row: msgspec.convert(row, Delivery, from_attributes=True)  # noqa: E731
    return read_page(conn, query, order=(_d.created_ms, _d.id), convert=convert, limit=limit, cursor=cursor)
