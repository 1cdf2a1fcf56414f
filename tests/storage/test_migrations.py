"""The schema: from nothing to this version and back, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL

from gateway.errors import ConfigurationError
from gateway.storage import migrations, tables
from gateway.storage.database import Database, open_database
from gateway.storage.migrations import alembic_config, current_revision, migrate, require_known_schema
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database without a table."""
    if request.param == "sqlite":
        database = open_database(URL.create("sqlite", database=str(tmp_path / "darkroom.db")))
        yield database
        await database.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    # the fixture's helpers run event loops of their own
    from anyio import to_thread  # noqa: PLC0415

    url = await to_thread.run_sync(server.create_database)
    database = open_database(url)
    yield database
    await database.close()
    await to_thread.run_sync(server.drop_database, url)


async def table_names(database: Database) -> set[str]:
    return set(await database.read(lambda conn: sa.inspect(conn).get_table_names()))


async def set_revision(database: Database, revision: str) -> None:
    await database.write(lambda conn: conn.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'"))


def snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.snapshot.db"))


async def test_from_nothing_to_this_version_and_back(empty: Database):
    assert await current_revision(empty) is None
    assert not await require_known_schema(empty)
    await migrate(empty)
    await migrate(empty)
    assert await require_known_schema(empty)
    assert await table_names(empty) == {*tables.metadata.tables, "alembic_version"}
    await empty.write(lambda conn: command.downgrade(alembic_config(conn), "base"))
    assert await table_names(empty) == {"alembic_version"}


async def test_the_scripts_make_what_the_tables_say(empty: Database):
    """Types are compared on PostgreSQL; SQLite has only one of each kind."""
    await migrate(empty)
    await empty.write(lambda conn: command.check(alembic_config(conn)))
    typed = empty.url.get_backend_name() == "postgresql"

    def differences(conn: sa.Connection) -> list[object]:
        context = MigrationContext.configure(conn, opts={"compare_type": typed, "compare_server_default": typed})
        return list(compare_metadata(context, tables.metadata))

    assert await empty.read(differences) == []


def test_the_names_of_the_scripts_say_their_revisions_in_order():
    scripts = ScriptDirectory(str(migrations.SCRIPTS)).walk_revisions()
    assert [script.revision for script in scripts] == migrations.revisions()[::-1]


async def test_constraints_hold_in_a_migrated_database(empty: Database):
    await migrate(empty)
    counter = {
        "mode": "live", "scope": "user", "scope_id": "u", "metric": "images", "window": "total",
        "window_start_ms": 0, "spent": 0, "reserved": -1,
    }  # fmt: skip
    with pytest.raises(sa.exc.IntegrityError):
        await empty.write(lambda conn: conn.execute(tables.counters.insert().values(counter)))


async def test_the_schema_of_a_newer_version_is_refused_and_left_alone(empty: Database):
    await migrate(empty)
    await set_revision(empty, "9999")
    with pytest.raises(ConfigurationError, match=r"schema 9999, which this version does not know.*restore a snapshot"):
        await migrate(empty)
    assert await current_revision(empty) == "9999"


OLDER = """
from alembic import op

revision = "{next}"
down_revision = "{head}"


def upgrade():
    op.execute("UPDATE teams SET name = 'migrated'"){then}


def downgrade():
    pass
"""


@pytest.fixture
def newer_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scripts of a version to come: ours and one more, in a folder of their own."""
    folder = tmp_path / "scripts"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((migrations.SCRIPTS / "env.py").read_text())
    for script in (migrations.SCRIPTS / "versions").glob("[0-9]*.py"):
        (folder / "versions" / script.name).write_text(script.read_text())
    head = migrations.revisions()[-1]
    (folder / "versions" / "9000_next.py").write_text(OLDER.format(next="9000", head=head, then=""))
    monkeypatch.setattr(migrations, "SCRIPTS", folder)
    return folder


async def with_data(database: Database) -> None:
    await database.write(lambda conn: command.upgrade(alembic_config(conn), "0001"))
    row = {"id": "team_1", "name": "before", "labels": {}, "created_ms": 1}
    await database.write(lambda conn: conn.execute(tables.teams.insert().values(row)))


async def names(database: Database) -> list[str]:
    found = sa.select(tables.teams.c.name)
    return list(await database.read(lambda conn: conn.execute(found).scalars().all()))


async def test_an_embedded_database_with_data_is_copied_before_it_is_changed(
    empty: Database, newer_scripts: Path, tmp_path: Path
):
    await with_data(empty)
    await migrate(empty)
    assert (await current_revision(empty), await names(empty)) == ("9000", ["migrated"])
    if empty.url.get_backend_name() == "postgresql":
        assert snapshots(tmp_path) == []
        return
    [copy] = snapshots(tmp_path)
    kept = open_database(URL.create("sqlite", database=str(copy)))
    assert (await current_revision(kept), await names(kept)) == ("0001", ["before"])
    await kept.close()


async def test_a_migration_that_fails_changes_nothing(empty: Database, newer_scripts: Path):
    failing = OLDER.format(
        next="9000", head=migrations.revisions()[-2], then="\n    raise RuntimeError('in the middle')"
    )
    (newer_scripts / "versions" / "9000_next.py").write_text(failing)
    await with_data(empty)
    with pytest.raises(RuntimeError, match="in the middle"):
        await migrate(empty)
    assert (await current_revision(empty), await names(empty)) == ("0001", ["before"])


async def test_an_empty_embedded_database_is_not_copied(tmp_path: Path):
    database = open_database(URL.create("sqlite", database=str(tmp_path / "darkroom.db")))
    await migrate(database)
    assert snapshots(tmp_path) == []
    await database.close()
