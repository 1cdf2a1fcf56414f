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
from gateway.storage.tables_accounts import audit_log, keys, users


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


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events; every field that is set must match. `actor`: as recorded, or an administrator's id alone.

    `team_id` and `own_id`: those about a team, its users and their keys, and those that an administrator did itself.
    """

    object_id: str | None = None
    action: str | None = None
    actor: str | None = None
    team_id: str | None = None
    own_id: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        c = audit_log.c
        found: list[sa.ColumnElement[bool]] = []
        if self.action is not None:
            found.append(c.action == self.action)
        if self.actor is not None:
            found.append(sa.or_(c.actor == self.actor, _by(self.actor)))
        if self.team_id is not None:
            mine = sa.select(users.c.id).where(users.c.team_id == self.team_id)
            about = [c.object_id == self.team_id, c.object_id.in_(mine)]
            about.append(c.object_id.in_(sa.select(keys.c.id).where(keys.c.user_id.in_(mine))))
            found.append(sa.or_(*about, *([_by(self.own_id)] if self.own_id else [])))
        return found


def _by(administrator_id: str) -> sa.ColumnElement[bool]:
    """Whatever its name was: the id ends what is recorded, so that no name passes for another's id."""
    return audit_log.c.actor.endswith(f"({administrator_id})", autoescape=True)


def list_events(
    conn: sa.Connection,
    chosen: EventFilter | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[AuditEvent]:
    """Newest first. Without a filter: all."""
    chosen = chosen or EventFilter()
    return read_page(
        conn,
        filtered(sa.select(audit_log), {audit_log.c.object_id: chosen.object_id}).where(*chosen.conditions()),
        order=(audit_log.c.at_ms, audit_log.c.id),
        convert=lambda row: msgspec.convert(row, AuditEvent, from_attributes=True),
        limit=limit,
        cursor=cursor,
    )
