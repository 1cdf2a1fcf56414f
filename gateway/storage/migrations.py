"""Bringing a database to the schema of this version, with Alembic. The scripts are part of the package.

A script says in `oldest_code` the oldest revision whose code can use the schema it makes; without it, its own. Replicas
of that code go on, and start, while others are replaced (docs/upgrading.md).

Alembic is imported when there is something to migrate: it takes a tenth of a start and of an idle process's memory.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

import gateway.migrations
from gateway.errors import ConfigurationError, LedgerUnavailable
from gateway.storage.database import Database, PostgresOptions, open_database
from gateway.storage.tables import schema_floor

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(gateway.migrations.__file__).parent
_MIGRATING = PostgresOptions(pool_size=1, statement_timeout_s=None, idle_in_transaction_timeout_s=0)
_TURN = 0x6461726B00  # of the advisory lock: one process at a time migrates
_LOCK_MS = 3000  # who waits for a lock holds up all that come after it
_ATTEMPTS = 20
_PAUSE_S = 1.0


def alembic_config(conn: sa.Connection) -> Config:
    """Alembic's configuration for work on an open connection."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = conn
    return config


def revisions() -> list[str]:
    """Those of this version, oldest first: a script's name begins with its revision."""
    return sorted(path.name.partition("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))


async def current_revision(database: Database) -> str | None:
    """None: of an empty database, or one whose migrations were all taken back."""
    return await database.read(_revision)


def _revision(conn: sa.Connection) -> str | None:
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


async def require_known_schema(database: Database) -> bool:
    """Whether the schema is this version's, or a newer one that this version can use (on PostgreSQL).

    Raises ConfigurationError when it is a newer version's that this one can't use. An embedded database has one
    gateway, which has gone on: another version that wrote it is refused.
    """
    current = await current_revision(database)
    known = revisions()
    if current is None or current in known:
        return current == known[-1]
    if database.url.get_backend_name() != "sqlite" and await database.read(_floor) in known:
        return True
    raise ConfigurationError(
        f"The database has schema {current}, which this version does not know: a newer darkroom wrote it. "
        "Install that version, or restore a snapshot."
    )


def _floor(conn: sa.Connection) -> str | None:
    """The oldest revision whose code can use the schema that is there."""
    if not sa.inspect(conn).has_table(schema_floor.name):
        return None
    return conn.execute(sa.select(schema_floor.c.revision)).scalar_one_or_none()


async def migrate(database: Database, *, to: str | None = None) -> None:
    """To this version's schema, or to the revision `to`, one revision a transaction.

    An embedded database with data in it is copied beside itself first. A shared one may be in use: processes that
    migrate take turns, and a step that does not get its locks within seconds gives way and tries again.
    """
    if await require_known_schema(database):
        return
    if database.url.get_backend_name() == "sqlite":
        if await current_revision(database) is not None:
            _snapshot(Path(database.url.database or ""))
        await _climb(database, to)
        return
    unhurried = open_database(database.url, _MIGRATING)
    try:
        await _climb(unhurried, to)
    finally:
        await unhurried.close()


async def _climb(database: Database, to: str | None) -> None:
    attempts = 0
    while True:
        try:
            if not await database.write(lambda conn: _step(conn, to)):
                return
            attempts = 0
        except LedgerUnavailable as exc:
            attempts += 1
            if attempts == _ATTEMPTS or not _lacked_a_lock(exc):
                raise
            await asyncio.sleep(_PAUSE_S)


def _lacked_a_lock(exc: LedgerUnavailable) -> bool:
    return getattr(getattr(exc.__cause__, "orig", None), "sqlstate", None) == "55P03"


def _step(conn: sa.Connection, to: str | None) -> bool:
    """One revision up. False: it is there, or a newer version has taken it further."""
    from alembic import command  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    if conn.dialect.name != "sqlite":
        conn.exec_driver_sql("SET LOCAL lock_timeout = 0")
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")
        conn.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MS}")
    current, path = _revision(conn), revisions()
    if current is not None and (current not in path or current == (to or path[-1])):
        return False
    following = path[0] if current is None else path[path.index(current) + 1]
    config = alembic_config(conn)
    command.upgrade(config, following)
    script = ScriptDirectory.from_config(config).get_revision(following)
    _set_floor(conn, getattr(script.module, "oldest_code", following))
    return True


def _set_floor(conn: sa.Connection, revision: str) -> None:
    if sa.inspect(conn).has_table(schema_floor.name):  # since 0002
        conn.execute(schema_floor.delete())
        conn.execute(schema_floor.insert().values(revision=revision))


def _snapshot(file: Path) -> None:
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    source = sqlite3.connect(file)
    try:
        source.execute("VACUUM INTO ?", (str(file.with_name(f"{file.stem}-{stamp}.snapshot.db")),))
    finally:
        source.close()
