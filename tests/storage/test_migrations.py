"""The schema: from nothing to this version and back, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL

from gateway.errors import ConfigurationError
from gateway.storage import migrations, tables, tables_accounts, usage_log, usage_partitions
from gateway.storage.database import Database, now_ms, open_database
from gateway.storage.migrations import alembic_config, current_revision, migrate, require_known_schema
from gateway.storage.usage_partitions import is_partition
from tests.support.ledger import usage_row
from tests.support.postgres import PostgresServer
from tests.support.waiting import until


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
    names = await database.read(lambda conn: sa.inspect(conn).get_table_names())
    return {name for name in names if not is_partition(name)}


def is_ours(_object: object, name: str, kind: str, _reflected: bool, _beside: object) -> bool:
    return not (kind == "table" and is_partition(name))


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
        opts = {"compare_type": typed, "compare_server_default": typed, "include_object": is_ours}
        context = MigrationContext.configure(conn, opts=opts)
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
    await empty.write(lambda conn: conn.execute(tables.schema_floor.update().values(revision="9999")))
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
    await database.write(lambda conn: conn.execute(tables_accounts.teams.insert().values(row)))


async def names(database: Database) -> list[str]:
    found = sa.select(tables_accounts.teams.c.name)
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
    head = migrations.revisions()[-2]
    failing = OLDER.format(next="9000", head=head, then="\n    raise RuntimeError('in the middle')")
    (newer_scripts / "versions" / "9000_next.py").write_text(failing)
    await with_data(empty)
    with pytest.raises(RuntimeError, match="in the middle"):
        await migrate(empty)
    assert (await current_revision(empty), await names(empty)) == (head, ["before"])


async def test_an_empty_embedded_database_is_not_copied(tmp_path: Path):
    database = open_database(URL.create("sqlite", database=str(tmp_path / "darkroom.db")))
    await migrate(database)
    assert snapshots(tmp_path) == []
    await database.close()


@pytest.fixture
async def shared(postgres: PostgresServer) -> AsyncIterator[Database]:
    """An empty database of PostgreSQL."""
    url = await asyncio.to_thread(postgres.create_database)
    database = open_database(url)
    yield database
    await database.close()
    await asyncio.to_thread(postgres.drop_database, url)


async def test_a_full_usage_log_is_divided_under_load_without_losing_a_row(shared: Database):
    """Writers and readers of the old version go on while it is migrated; what they wrote is there, once."""
    await shared.write(lambda conn: command.upgrade(alembic_config(conn), "0001"))
    await shared.write(lambda conn: conn.exec_driver_sql(FILL))
    written, done = 0, asyncio.Event()

    async def use() -> None:
        nonlocal written
        while not done.is_set():
            rows = [usage_row(at_ms=await shared.read(now_ms)) for _ in range(5)]
            fresh = await shared.write(partial(usage_log.add, rows=rows))
            written += fresh
            await shared.read(lambda conn: usage_log.count_requests(conn, **ALL))

    users = [asyncio.create_task(use()) for _ in range(4)]
    await migrate(shared)
    await shared.write(usage_partitions.make_ahead)
    done.set()
    await asyncio.gather(*users)
    assert written > 0
    look = "SELECT count(*), count(DISTINCT id), sum(cost_micro_usd) FROM usage_log"
    assert await shared.read(lambda conn: tuple(conn.exec_driver_sql(look).one())) == (
        20_000 + written, 20_000 + written, 20_000 + 65_000 * written
    )  # fmt: skip
    assert await shared.read(usage_partitions.faults) == []
    await shared.write(lambda conn: command.downgrade(alembic_config(conn), "0001"))
    assert (await shared.read(lambda conn: tuple(conn.exec_driver_sql(look).one())))[0] == 20_000 + written


ALL: dict[str, Any] = {"mode": "live", "scope_column": "user_id", "scope_id": "user_1", "since_ms": 0}
FILL = """
    INSERT INTO usage_log (at_ms, id, mode, key_id, user_id, outcome, status, images, saved_micro_usd, latency_us,
                           cost_micro_usd)
    SELECT 1700000000000 + i * 1000, 'req_' || i, 'live', 'key_1', 'user_1', 'hit', 200, 1, 0, 0, 1
    FROM generate_series(1, 20000) AS i
"""


async def test_the_old_log_is_attached_without_being_read(shared: Database):
    """By the bound that was checked before; a read would be a lock for as long as it takes."""
    await shared.write(lambda conn: command.upgrade(alembic_config(conn), "0003"))
    await shared.write(lambda conn: conn.exec_driver_sql(FILL))

    def attach(conn: sa.Connection) -> int:
        command.upgrade(alembic_config(conn), "0004")
        looked = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'usage_log_before'"
        return int(conn.exec_driver_sql(looked).scalar_one())

    assert await shared.write(attach) == 0


async def test_a_step_that_does_not_get_its_lock_gives_way_and_tries_again(shared: Database):
    """A long report reads the log: those that come after the migration must not wait as long as it does."""
    await shared.write(lambda conn: command.upgrade(alembic_config(conn), "0001"))
    reading, go = asyncio.Event(), asyncio.Event()

    def report(conn: sa.Connection) -> None:
        conn.execute(sa.select(sa.func.count()).select_from(tables.usage_log))
        reading.set()
        sa.util.await_only(go.wait())

    reads = asyncio.create_task(shared.read(report))
    await reading.wait()
    migrates = asyncio.create_task(migrate(shared))
    waits = "SELECT count(*) {} 0 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    for state in (">", "="):
        look = partial(sa.Connection.exec_driver_sql, statement=waits.format(state))
        await until(lambda look=look: shared.read(lambda conn: look(conn).scalar_one()))  # type: ignore[misc]
    go.set()
    await reads
    await migrates
    assert await require_known_schema(shared)


async def test_processes_that_migrate_at_once_take_turns(shared: Database):
    others = [open_database(shared.url) for _ in range(3)]
    await asyncio.gather(*(migrate(each) for each in (shared, *others)))
    assert await require_known_schema(shared)
    for each in others:
        await each.close()


async def test_a_newer_schema_that_says_so_is_used_on_by_replicas_and_refused_by_an_embedded_gateway(empty: Database):
    await migrate(empty)
    await set_revision(empty, "9999")
    if empty.url.get_backend_name() == "sqlite":
        with pytest.raises(ConfigurationError, match="a newer darkroom wrote it"):
            await require_known_schema(empty)
    else:
        assert await require_known_schema(empty)
        await migrate(empty)
        assert await current_revision(empty) == "9999"


async def test_alerts_of_two_amounts_of_a_limit_are_one_again_for_older_versions(empty: Database):
    await migrate(empty)
    insert = """
        INSERT INTO alerts (id, mode, scope, scope_id, metric, "window", window_start_ms, percent, amount, used, at_ms)
        VALUES ('alert_{0}', 'live', 'user', 'user_1', 'cost_usd', 'total', 0, {1}, {2}, 9, 1)
    """
    for row in (("a", 80, 5), ("b", 80, 10), ("c", 100, 5)):
        await empty.write(partial(sa.Connection.exec_driver_sql, statement=insert.format(*row)))
    await empty.write(lambda conn: command.downgrade(alembic_config(conn), "0007"))
    ids = "SELECT id FROM alerts ORDER BY id"
    assert await empty.read(lambda conn: conn.exec_driver_sql(ids).scalars().all()) == ["alert_a", "alert_c"]
    with pytest.raises(sa.exc.IntegrityError):
        await empty.write(lambda conn: conn.exec_driver_sql(insert.format("d", 80, 20)))
    await migrate(empty)
    await empty.write(lambda conn: conn.exec_driver_sql(insert.format("d", 80, 20)))


COMPATIBLE = """
oldest_code = "{floor}"
"""


@pytest.mark.parametrize("floor", ["0004", None])
async def test_a_script_says_which_older_version_may_go_on(empty: Database, newer_scripts: Path, floor: str | None):
    script = newer_scripts / "versions" / "9000_next.py"
    if floor is not None:
        script.write_text(script.read_text() + COMPATIBLE.format(floor=floor))
    await migrate(empty)
    found = sa.select(tables.schema_floor.c.revision)
    assert await empty.read(lambda conn: conn.execute(found).scalars().all()) == [floor or "9000"]
