"""Who is signed in at the console, by the hash of what the browser holds.

SQL gone: nobody can sign in, and who is signed in is not known.
"""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from gateway.storage.database import now_ms
from gateway.storage.tables_accounts import sessions


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """`kind`: administrator or caller. `proof`: the hash of the key that was shown at the door."""

    token_hash: str
    kind: str
    subject_id: str
    proof: str
    csrf: str
    created_ms: int
    expires_ms: int


def insert(conn: sa.Connection, row: SessionRow) -> None:
    """Sessions that have expired go on the way."""
    conn.execute(sessions.delete().where(sessions.c.expires_ms <= row.created_ms))
    conn.execute(sessions.insert().values(msgspec.structs.asdict(row)))


def find(conn: sa.Connection, token_hash: str) -> SessionRow | None:
    """One that has not expired."""
    row = conn.execute(sa.select(sessions).where(sessions.c.token_hash == token_hash)).one_or_none()
    if row is None or row.expires_ms <= now_ms(conn):
        return None
    return msgspec.convert(row, SessionRow, from_attributes=True)


def delete(conn: sa.Connection, token_hash: str) -> None:
    conn.execute(sessions.delete().where(sessions.c.token_hash == token_hash))
