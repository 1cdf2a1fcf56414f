"""Which accounts a file declares: what those may be is said there, and nowhere else.

SQL gone: nothing can be declared or changed.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.errors import Conflict
from gateway.storage.tables_accounts import declared

Place = tuple[str, str]
"""The kind of an account, and its name within its file."""


def places(conn: sa.Connection, source: str) -> dict[Place, str]:
    """What a file declares, by place: the ids."""
    d = declared.c
    rows = conn.execute(sa.select(d.kind, d.handle, d.object_id).where(d.source == source).with_for_update())
    return {(row.kind, row.handle): row.object_id for row in rows}


def declare(conn: sa.Connection, source: str, place: Place, object_id: str) -> None:
    """Raises Conflict when another application of the file was faster, or another file declares the account."""
    kind, handle = place
    try:
        conn.execute(declared.insert().values(source=source, kind=kind, handle=handle, object_id=object_id))
    except sa.exc.IntegrityError:
        other = source_of(conn, object_id) if conn.dialect.name == "sqlite" else None
        by = f"is declared in {other}" if other and other != source else "was declared by someone else just now"
        raise Conflict(f"The {kind} {handle} {by}.") from None


def release(conn: sa.Connection, object_id: str) -> None:
    conn.execute(declared.delete().where(declared.c.object_id == object_id))


def source_of(conn: sa.Connection, object_id: str) -> str | None:
    """The file that declares an account, if one does."""
    return conn.execute(sa.select(declared.c.source).where(declared.c.object_id == object_id)).scalar_one_or_none()


def check_free(conn: sa.Connection, kind: str, object_id: str) -> None:
    """Raises Conflict for an account that a file declares."""
    source = source_of(conn, object_id)
    if source is not None:
        raise Conflict(
            f"This {kind} is declared in {source}: change it there, and `darkroom apply -f {source}`.",
            data={"declared_in": source},
        )
