"""The processes that share this database, by their heartbeats.

SQL gone: nobody is counted, and the last count holds.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.storage.database import insert, now_ms
from gateway.storage.tables import replicas

ALIVE_MS = 15_000
"""How long a process counts after its last heartbeat."""

_FORGOTTEN_MS = 24 * 3600 * 1000


def beat(conn: sa.Connection, process_id: str) -> int:
    """This process is alive. Returns how many are."""
    now = now_ms(conn)
    made = insert(conn, replicas).values(process_id=process_id, seen_ms=now)
    conn.execute(made.on_conflict_do_update(index_elements=[replicas.c.process_id], set_={"seen_ms": now}))
    conn.execute(replicas.delete().where(replicas.c.seen_ms < now - _FORGOTTEN_MS))
    alive = sa.select(sa.func.count()).where(replicas.c.seen_ms > now - ALIVE_MS)
    return int(conn.execute(alive).scalar_one())


def leave(conn: sa.Connection, process_id: str) -> None:
    """This process ends: its part of the limits is the others' from now on."""
    conn.execute(replicas.delete().where(replicas.c.process_id == process_id))
