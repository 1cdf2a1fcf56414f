"""Making backups and putting them back: whole or not at all, and never over anything."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.engine import URL

from gateway.errors import ConfigurationError, StorageFailed
from gateway.services.backup_files import MANIFEST
from gateway.services.backups import back_up
from gateway.services.restoring import Restored, restore, verify
from gateway.storage import tables, tables_accounts
from gateway.storage.changes import record
from gateway.storage.database import Database, open_database
from gateway.storage.images import ImageStore, LocalImageStore
from gateway.storage.migrations import alembic_config, current_revision, migrate, require_known_schema, revisions
from tests.support.ledger import Books, flight, stored_image
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

PICTURE = b"the bytes of a picture"
NO_TABLE = {"file": "x", "sha256": "", "columns": [], "figures": {"rows": 0, "sums": {}, "digest": ""}}
SHA256 = hashlib.sha256(PICTURE).hexdigest()


def silent(_name: str, _done: int, _total: int) -> None:
    """Progress that no one watches."""


@pytest.fixture(params=["sqlite", "postgresql"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database without a table."""
    if request.param == "sqlite":
        opened = open_database(URL.create("sqlite", database=str(tmp_path / "target.db")))
        yield opened
        await opened.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = await asyncio.to_thread(server.create_database)
    opened = open_database(url)
    yield opened
    await opened.close()
    await asyncio.to_thread(server.drop_database, url)


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Database]:
    """An embedded database with a cached picture in it."""
    opened = open_database(URL.create("sqlite", database=str(tmp_path / "source.db")))
    await migrate(opened)
    books = Books(opened)
    made = await books.reserve(flight("fp"), accepts=lambda _entry, _now: False)
    await books.send(made.id)
    await books.answer(made.id)
    await books.publish(made, stored_image(SHA256, size_bytes=len(PICTURE)))
    await opened.write(lambda conn: record(conn, "key", "key_1"))
    yield opened
    await opened.close()


@pytest.fixture
async def images(tmp_path: Path) -> LocalImageStore:
    store = LocalImageStore(tmp_path / "images")
    await store.put(SHA256, PICTURE)
    return store


@pytest.fixture
async def kept(source: Database, images: LocalImageStore, tmp_path: Path) -> Path:
    """A backup with everything in it."""
    await back_up(source, tmp_path / "kept", secrets=["5ec4e7"], tell=silent, images=images)
    return tmp_path / "kept"


async def put_back(database: Database, folder: Path, *, images: ImageStore | None = None) -> Restored:
    return await restore(database, folder, images=images, secrets=["5ec4e7"], encryption_keys=[], tell=silent)


def change(folder: Path, **changes: object) -> None:
    file = folder / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


async def contents(database: Database) -> dict[str, list[dict[str, object]]]:
    books = Books(database)
    ours = [table for table in tables.metadata.sorted_tables if table is not tables.schema_floor]
    return {table.name: await books.rows(table) for table in ours}


async def is_empty(database: Database) -> bool:
    return not any((await contents(database)).values())


async def test_a_backup_comes_back_as_it_was_with_its_pictures(
    source: Database, target: Database, kept: Path, tmp_path: Path
):
    elsewhere = LocalImageStore(tmp_path / "elsewhere")
    restored = await put_back(target, kept, images=elsewhere)
    assert (restored.manifest, restored.warnings) == (verify(kept), [])
    assert await contents(target) == await contents(source)
    assert await elsewhere.get(SHA256) == PICTURE
    assert await require_known_schema(target)
    assert await Books(target).broken_rules() == []


async def test_numbers_that_the_database_gives_go_on_after_those_it_was_given(target: Database, kept: Path):
    await put_back(target, kept)
    await target.write(lambda conn: record(conn, "key", "key_2"))
    ids = [row["id"] for row in await Books(target).rows(tables.changes)]
    assert len(set(ids)) == 2


async def test_a_backup_is_of_one_moment(database: Database, tmp_path: Path):
    """While it is made, rows go from the table that is written last to the one that is written first."""
    if database.url.get_backend_name() == "postgresql":
        await database.write(lambda conn: conn.exec_driver_sql(STAMP))
    else:
        await database.write(lambda conn: command.stamp(alembic_config(conn), "head"))
    names = [table.name for table in tables.metadata.sorted_tables if table.name in {"teams", "audit_log"}]
    row = {"id": "x", "name": "x", "labels": {}, "created_ms": 1}
    await database.write(lambda conn: conn.execute(tables_accounts.teams.insert().values(row)))
    moved: list[asyncio.Task[None]] = []

    def move(conn: sa.Connection) -> None:
        conn.execute(sa.delete(tables_accounts.teams))
        conn.execute(tables_accounts.audit_log.insert().values(ACT))

    loop = asyncio.get_running_loop()

    def tell(name: str, _done: int, _total: int) -> None:
        if name == names[0]:
            asyncio.run_coroutine_threadsafe(_start(), loop)

    async def _start() -> None:
        if not moved:
            moved.append(asyncio.create_task(database.write(move)))

    made = await back_up(database, tmp_path / "kept", secrets=[], tell=tell)
    await moved[0]
    assert [made.tables[name].figures.rows for name in ("teams", "audit_log")] == [1, 0]


STAMP = f"CREATE TABLE IF NOT EXISTS alembic_version AS SELECT '{revisions()[-1]}'::varchar(32) AS version_num"
ACT = {"id": "act_1", "at_ms": 1, "actor": "x", "action": "x", "object_kind": "x", "object_id": "x", "detail": None}


async def test_a_folder_that_is_there_is_left_alone(source: Database, kept: Path):
    before = sorted(kept.iterdir())
    with pytest.raises(ConfigurationError, match="is there already"):
        await back_up(source, kept, secrets=[], tell=silent)
    assert sorted(kept.iterdir()) == before


async def test_a_backup_goes_where_a_link_leads_and_never_over_a_file_system(source: Database, tmp_path: Path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far")
    await back_up(source, tmp_path / "link", secrets=[], tell=silent)
    assert verify(tmp_path / "far").format == 1
    with pytest.raises(ConfigurationError, match=r"/dev/shm is a file system of its own; name a folder in it"):
        await back_up(source, Path("/dev/shm"), secrets=[], tell=silent)


async def test_a_backup_that_fails_leaves_nothing(source: Database, tmp_path: Path):
    def fail(name: str, _done: int, _total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ConfigurationError, match="can't be written: No space left on device"):
        await back_up(source, tmp_path / "kept", secrets=[], tell=fail)
    assert [path.name for path in tmp_path.iterdir() if "kept" in path.name] == []


async def test_a_schema_of_another_version_is_not_backed_up(target: Database, tmp_path: Path):
    await migrate(target, to=revisions()[-2])
    with pytest.raises(ConfigurationError, match="run `darkroom migrate` first"):
        await back_up(target, tmp_path / "kept", secrets=[], tell=silent)


async def test_bytes_that_are_gone_or_changed_are_named_and_the_rest_is_kept(
    source: Database, images: LocalImageStore, tmp_path: Path
):
    await images.delete([SHA256])
    await images.put(SHA256, b"other bytes")
    made = await back_up(source, tmp_path / "kept", secrets=[], tell=silent, images=images)
    assert made.images.lost == [SHA256]
    assert verify(tmp_path / "kept") == made


@pytest.mark.parametrize("file", ["usage_log.jsonl.gz", "image_list.jsonl.gz", f"image_bytes/{SHA256[:2]}/{SHA256}"])
@pytest.mark.parametrize("how", ["changed", "gone"])
async def test_a_damaged_backup_is_refused_before_anything_is_written(
    target: Database, kept: Path, file: str, how: str
):
    path = kept / file
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigurationError, match="is damaged"):
        await put_back(target, kept)
    assert await current_revision(target) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"revision": "9999"}, "schema 9999, which this version does not know"),
        ({"format": 2}, "of a form that this version does not know"),
        ({"tables": {"x; --": NO_TABLE}}, "of a form that this version does not know"),
        ({"images": "many"}, "is damaged, or of another version"),
    ],
)  # fmt: skip
async def test_a_backup_that_this_version_does_not_know_is_refused(
    target: Database, kept: Path, changes: dict[str, object], said: str
):
    change(kept, **changes)
    with pytest.raises(ConfigurationError, match=said):
        await put_back(target, kept)


async def test_without_a_manifest_there_is_no_backup(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="There is no backup in"):
        verify(tmp_path)


async def test_a_target_that_is_not_empty_is_left_alone(target: Database, kept: Path):
    await put_back(target, kept)
    before = await contents(target)
    with pytest.raises(ConfigurationError, match=r"is not empty \(it has "):
        await put_back(target, kept)
    assert await contents(target) == before


async def test_a_target_with_tables_of_others_is_refused(target: Database, kept: Path):
    await target.write(lambda conn: conn.exec_driver_sql("CREATE TABLE payroll (id int)"))
    with pytest.raises(ConfigurationError, match=r"is not empty \(it has payroll\)"):
        await put_back(target, kept)


async def test_a_target_of_a_newer_version_is_refused(target: Database, kept: Path):
    await migrate(target)
    await target.write(lambda conn: conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="schema 9999, which this version does not know"):
        await put_back(target, kept)


async def test_a_target_that_cannot_be_reached_is_named_without_its_password(kept: Path):
    url = URL.create("postgresql+asyncpg", "u", "hidden-word", host="127.0.0.1", port=free_port(), database="x")
    database = open_database(url)
    with pytest.raises(ConfigurationError, match="can't be reached") as refused:
        await put_back(database, kept)
    assert "hidden-word" not in refused.value.message
    await database.close()


async def test_a_restore_that_fails_in_the_middle_leaves_an_empty_database_that_can_be_tried_again(
    target: Database, kept: Path
):
    def fail(name: str, _done: int, _total: int) -> None:
        if name == "usage_log":
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        await restore(target, kept, images=None, secrets=[], encryption_keys=[], tell=fail)
    assert await is_empty(target)
    await put_back(target, kept)
    assert not await is_empty(target)


async def test_a_restore_whose_image_store_is_gone_can_be_tried_again(target: Database, kept: Path, tmp_path: Path):
    (tmp_path / "in the way").write_text("no folder")
    with pytest.raises(StorageFailed):
        await put_back(target, kept, images=LocalImageStore(tmp_path / "in the way" / "images"))
    assert await is_empty(target)
    elsewhere = LocalImageStore(tmp_path / "elsewhere")
    assert (await put_back(target, kept, images=elsewhere)).warnings == []
    assert await elsewhere.get(SHA256) == PICTURE


LATER_TABLES = (
    "administrators", "alerts", "declared", "deliveries", "statement_lines", "statements", "usage_tags_daily",
    "usage_tags_since", "webhooks",
)  # fmt: skip


async def test_a_backup_of_an_older_version_is_restored_and_migrated(target: Database, kept: Path):
    tables_then = json.loads((kept / MANIFEST).read_text())["tables"]
    for name in LATER_TABLES:
        del tables_then[name]
    for name in ("limits", "users"):
        assert tables_then[name]["figures"]["rows"] == 0  # its file needs no change but for a later column
        tables_then[name]["columns"].pop()
    change(kept, revision="0001", tables=tables_then)
    await put_back(target, kept)
    assert await current_revision(target) == revisions()[-1]
    assert not await is_empty(target)


async def test_restored_bytes_that_are_missing_are_told(target: Database, source: Database, tmp_path: Path):
    await back_up(source, tmp_path / "kept", secrets=["5ec4e7"], tell=silent)
    [said] = (await put_back(target, tmp_path / "kept", images=LocalImageStore(tmp_path / "empty"))).warnings
    assert said.startswith(f"1 pictures have no bytes in the folder {tmp_path / 'empty'} ({SHA256}")
