"""Tables as files: what is read is what was written, on either engine, and what was changed is seen."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.errors import ConfigurationError
from gateway.storage import tables, tables_accounts, usage_log
from gateway.storage.database import Database
from gateway.storage.table_files import TableFile, dump, kept_tables, load, measure, measure_file
from tests.support.ledger import Books, flight, stored_image, usage_row

TEAM = {"id": "team_1", "name": "Search", "labels": {}, "created_ms": 1}
NAMES = ("generations", "cache_entries", "usage_log", "teams", "counters")


def silent(_name: str, _done: int, _total: int) -> None:
    """Progress that no one watches."""


async def fill(database: Database) -> None:
    """Rows with every kind of value: bytes, booleans, JSON with what engines stumble on, large integers, NULL."""
    books = Books(database)
    made = await books.reserve(flight("fp"), accepts=lambda _entry, _now: False)
    await books.send(made.id)
    await books.answer(made.id)
    await books.publish(made, stored_image())
    await books.reserved()
    labels = {"nul": "a\u0000b", "large": 2**60, "quote": "\"'\\", "line": "a\nb", "emoji": "🖼"}
    team = {"id": "team_1", "name": "Søk\n\t\\N", "labels": labels, "created_ms": 2**62}
    counter = {
        "mode": "live", "scope": "user", "scope_id": "u", "metric": "cost_usd", "window": "total",
        "window_start_ms": 0, "spent": 2**62, "reserved": 1,
    }  # fmt: skip
    await database.write(lambda conn: conn.execute(tables_accounts.teams.insert().values(team)))
    await database.write(lambda conn: conn.execute(tables.counters.insert().values(counter)))


async def dumped(database: Database, folder: Path) -> dict[str, TableFile]:
    columns = kept_tables()
    return await database.read(lambda conn: {name: dump(conn, name, columns[name], folder, silent) for name in NAMES})


async def rows(database: Database) -> list[list[dict[str, Any]]]:
    books = Books(database)
    return [await books.rows(tables.metadata.tables[name]) for name in NAMES]


async def empty(database: Database) -> None:
    for table in tables.metadata.sorted_tables:
        await database.write(lambda conn, table=table: conn.execute(sa.delete(table)))  # type: ignore[misc]


async def test_rows_of_every_kind_come_back_as_they_were(database: Database, tmp_path: Path):
    await fill(database)
    before = await rows(database)
    made = await dumped(database, tmp_path)
    await empty(database)

    def load_all(conn: sa.Connection) -> None:
        for name, each in made.items():
            load(conn, name, each, tmp_path, silent)

    await database.write(load_all)
    assert await rows(database) == before
    assert all(measure_file(each, tmp_path) == each.figures for each in made.values())
    assert made["counters"].figures.sums["spent"] == 2**62


async def test_two_tables_with_the_same_rows_have_the_same_figures_whatever_their_order(database: Database):
    columns = kept_tables()["teams"]
    found = []
    for ids in (("a", "b", "c"), ("c", "a", "b"), ("a", "b", "d")):
        await empty(database)
        for row_id in ids:
            added = tables_accounts.teams.insert().values(TEAM | {"id": row_id})
            await database.write(partial(sa.Connection.execute, statement=added))
        found.append(await database.read(lambda conn: measure(conn, "teams", columns)))
    assert found[0] == found[1]
    assert found[2].rows == found[0].rows
    assert found[2].digest != found[0].digest


async def test_what_a_table_holds_besides_makes_a_load_fail_and_leaves_nothing(database: Database, tmp_path: Path):
    await fill(database)
    made = await dumped(database, tmp_path)
    await database.write(lambda conn: conn.execute(sa.delete(tables_accounts.teams)))
    other = {"id": "other", "name": "x", "labels": {}, "created_ms": 1}
    await database.write(lambda conn: conn.execute(tables_accounts.teams.insert().values(other)))
    with pytest.raises(ConfigurationError, match="teams does not hold what was written"):
        await database.write(lambda conn: load(conn, "teams", made["teams"], tmp_path, silent))
    assert [row["id"] for row in await Books(database).rows(tables_accounts.teams)] == ["other"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_what_postgresql_does_not_take_is_said_by_table(database: Database, tmp_path: Path):
    """A NUL outside of JSON, which SQLite would keep."""
    await database.write(lambda conn: conn.execute(tables_accounts.teams.insert().values(TEAM)))
    columns = kept_tables()["teams"]
    made = await database.read(lambda conn: dump(conn, "teams", columns, tmp_path, silent))
    await empty(database)
    file = tmp_path / made.file
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).replace(b"Search", b"a\\u0000b")))
    with pytest.raises(ConfigurationError, match="does not take the rows of teams"):
        await database.write(lambda conn: load(conn, "teams", made, tmp_path, silent))


async def test_progress_is_told_to_its_end(database: Database, tmp_path: Path):
    added = [usage_row() for _ in range(4500)]
    await database.write(lambda conn: usage_log.add(conn, added))
    told: list[tuple[str, int, int]] = []
    columns = kept_tables()["usage_log"]
    await database.read(lambda conn: dump(conn, "usage_log", columns, tmp_path, lambda *step: told.append(step)))
    assert [done for _, done, _ in told] == [2000, 4000, 4500]
    assert {total for _, _, total in told} == {4500}
