"""What was changed lately: written with the change, polled by every process that holds anything in memory.

On PostgreSQL ids and times are taken before the commit, so a row can appear behind one already read. A reader
therefore looks back a little further than its last look, and knows rows it has seen by their ids.

SQL gone: nothing can change either, and readers keep what they hold.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from gateway.storage.database import now_ms
from gateway.storage.tables import changes

LOOK_BACK_MS = 30_000
"""Longer than any transaction that records a change."""

KEPT_MS = 24 * 3600 * 1000


class Change(NamedTuple):
    id: int
    kind: str
    object_id: str


class Look(NamedTuple):
    """The changes seen, and the database's time at the start of the look, to pass to the next one."""

    at_ms: int
    changes: list[Change]


def record(conn: sa.Connection, kind: str, *object_ids: str) -> None:
    at_ms = now_ms(conn)
    conn.execute(changes.insert(), [{"at_ms": at_ms, "kind": kind, "object_id": each} for each in object_ids])


def look(conn: sa.Connection, last_ms: int | None) -> Look:
    """Changes since `LOOK_BACK_MS` before the last look, in order of id; None looks back from now."""
    at_ms = now_ms(conn)
    since = (at_ms if last_ms is None else last_ms) - LOOK_BACK_MS
    rows = conn.execute(
        sa.select(changes.c.id, changes.c.kind, changes.c.object_id)
        .where(changes.c.at_ms > since)
        .order_by(changes.c.id)
    )
    return Look(at_ms, [Change(*row) for row in rows])


def prune(conn: sa.Connection) -> None:
    """Removes what is older than a day: a reader that was away for so long starts afresh."""
    conn.execute(changes.delete().where(changes.c.at_ms < now_ms(conn) - KEPT_MS))
