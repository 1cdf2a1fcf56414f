"""Who changed what and when, written in the transaction of the change: neither is there without the other.

SQL gone: the change fails, and with it its row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from gateway.domain.ids import new_id
from gateway.storage.database import now_ms
from gateway.storage.paging import DEFAULT_LIMIT, Page, filtered, read_page
from gateway.storage.tables_accounts import audit_log


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`action` is object and verb ("key.create"); `detail` is what was set, never a secret."""

    id: str
    at_ms: int
    actor: str
    action: str
    object_kind: str
    object_id: str
    detail: dict[str, Any] | None


class Act(NamedTuple):
    """`actor` does `verb` to an object: "create" to a "key"."""

    actor: str
    verb: str
    kind: str
    object_id: str
    detail: dict[str, Any] | None = None


def record(conn: sa.Connection, act: Act) -> None:
    event = AuditEvent(
        id=new_id("evt"),
        at_ms=now_ms(conn),
        actor=act.actor,
        action=f"{act.kind}.{act.verb}",
        object_kind=act.kind,
        object_id=act.object_id,
        detail=act.detail,
    )
    conn.execute(audit_log.insert().values(msgspec.structs.asdict(event)))


def list_events(
    conn: sa.Connection,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    object_id: str | None = None,
) -> Page[AuditEvent]:
    """Newest first."""
    return read_page(
        conn,
        filtered(sa.select(audit_log), {audit_log.c.object_id: object_id}),
        order=(audit_log.c.at_ms, audit_log.c.id),
        convert=lambda row: msgspec.convert(row, AuditEvent, from_attributes=True),
        limit=limit,
        cursor=cursor,
    )
