"""Bringing a database to the schema of this version, with Alembic. The scripts are part of the package."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import gateway.migrations
from gateway.errors import ConfigurationError
from gateway.storage.database import Database

SCRIPTS = Path(gateway.migrations.__file__).parent


def alembic_config(conn: sa.Connection) -> Config:
    """Alembic's configuration for work on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = conn
    return config


async def current_revision(database: Database) -> str | None:
    return await database.read(lambda conn: MigrationContext.configure(conn).get_current_revision())


def head_revision() -> str:
    head = ScriptDirectory(str(SCRIPTS)).get_current_head()
    if head is None:
        raise RuntimeError("the package has no migrations")
    return head


async def require_known_schema(database: Database) -> bool:
    """Whether the schema is this version's. Raises ConfigurationError when it is a newer version's."""
    current = await current_revision(database)
    known = {script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()}
    if current is not None and current not in known:
        raise ConfigurationError(
            f"The database has schema {current}, which this version does not know: a newer darkroom wrote it. "
            "Install that version, or restore a snapshot."
        )
    return current == head_revision()


async def migrate(database: Database) -> None:
    """To this version's schema. An embedded database with data in it is copied beside itself first."""
    if await require_known_schema(database):
        return
    if database.url.get_backend_name() == "sqlite" and await current_revision(database) is not None:
        _snapshot(Path(database.url.database or ""))
    await database.write(lambda conn: command.upgrade(alembic_config(conn), "head"))


def _snapshot(file: Path) -> None:
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    source = sqlite3.connect(file)
    try:
        source.execute("VACUUM INTO ?", (str(file.with_name(f"{file.stem}-{stamp}.snapshot.db")),))
    finally:
        source.close()
