"""Provider keys that were added at run time, their secrets sealed; and what was said of the configuration's own.

SQL gone: keys in memory go on; none can be added or changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.storage.database import now_ms
from gateway.storage.tables_accounts import provider_keys


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is sealed; None: a row that only says whether a key of the configuration is disabled."""

    id: str
    provider: str
    name: str | None
    secret: str | None
    hint: str
    weight: int
    max_concurrency: int
    created_ms: int
    disabled_ms: int | None
    deleted_ms: int | None


def place_of(key_id: str) -> str:
    """What a secret is bound to when it is sealed."""
    return f"provider_keys/{key_id}/secret"


def load(conn: sa.Connection) -> list[StoredKey]:
    """All that are not deleted, oldest first."""
    c = provider_keys.c
    found = sa.select(provider_keys).where(c.deleted_ms.is_(None)).order_by(c.created_ms, c.id)
    return [msgspec.convert(row, StoredKey, from_attributes=True) for row in conn.execute(found)]


def find(conn: sa.Connection, key_id: str) -> StoredKey | None:
    c = provider_keys.c
    row = conn.execute(sa.select(provider_keys).where(c.id == key_id, c.deleted_ms.is_(None))).one_or_none()
    return None if row is None else msgspec.convert(row, StoredKey, from_attributes=True)


def lock(conn: sa.Connection) -> None:
    """Nobody else adds or changes a key until the transaction ends. SQLite has one writer anyway."""
    if conn.dialect.name != "sqlite":
        conn.exec_driver_sql("LOCK TABLE provider_keys IN SHARE ROW EXCLUSIVE MODE")


def insert(conn: sa.Connection, key: StoredKey) -> None:
    conn.execute(provider_keys.insert().values(msgspec.structs.asdict(key)))


def update(conn: sa.Connection, key_id: str, values: Mapping[str, Any]) -> None:
    conn.execute(sa.update(provider_keys).where(provider_keys.c.id == key_id).values(values))


def delete(conn: sa.Connection, key_id: str) -> None:
    """The row stays, without its secret: purchases name it."""
    update(conn, key_id, {"deleted_ms": now_ms(conn), "secret": None})
