"""Bringing a database to the schema of this version, with Alembic. The scripts are part of the package.

Alembic is imported when there is something to migrate: it takes a tenth of a start and of an idle process's memory.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

import gateway.migrations
from gateway.errors import ConfigurationError
from gateway.storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(gateway.migrations.__file__).parent


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
    """Whether the schema is this version's. Raises ConfigurationError when it is a newer version's."""
    current = await current_revision(database)
    known = revisions()
    if current is not None and current not in known:
        raise ConfigurationError(
            f"The database has schema {current}, which this version does not know: a newer darkroom wrote it. "
            "Install that version, or restore a snapshot."
        )
    return current == known[-1]


async def migrate(database: Database) -> None:
    """To this version's schema. An embedded database with data in it is copied beside itself first."""
    if await require_known_schema(database):
        return
    if database.url.get_backend_name() == "sqlite" and await current_revision(database) is not None:
        _snapshot(Path(database.url.database or ""))
    from alembic import command  # noqa: PLC0415

    await database.write(lambda conn: command.upgrade(alembic_config(conn), "head"))


def _snapshot(file: Path) -> None:
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    source = sqlite3.connect(file)
    try:
        source.execute("VACUUM INTO ?", (str(file.with_name(f"{file.stem}-{stamp}.snapshot.db")),))
    finally:
        source.close()
