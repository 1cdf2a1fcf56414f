"""The months of the usage log: made ahead, never refusing a row, dropped whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from gateway.errors import LedgerUnavailable
from gateway.storage import tables, usage_log, usage_partitions
from gateway.storage.database import Database, now_ms, open_database
from gateway.storage.migrations import migrate
from gateway.storage.usage_partitions import DEFAULT, MONTHS_AHEAD, next_month_ms
from tests.support.ledger import usage_row
from tests.support.postgres import PostgresServer

DAY_MS = 86_400_000


@pytest.fixture
async def migrated(postgres: PostgresServer) -> AsyncIterator[Database]:
    """PostgreSQL as `darkroom migrate` leaves it."""
    url = await asyncio.to_thread(postgres.create_database)
    opened = open_database(url)
    await migrate(opened)
    yield opened
    await opened.close()
    await asyncio.to_thread(postgres.drop_database, url)


async def names(database: Database) -> list[str]:
    return [each.name for each in await database.read(usage_partitions.partitions)]


async def add(database: Database, *times_ms: int) -> None:
    rows = [usage_row(at_ms=at_ms) for at_ms in times_ms]
    assert await database.write(lambda conn: usage_log.add(conn, rows)) == len(rows)


async def count(database: Database, table: str = "usage_log") -> int:
    return int(await database.read(lambda conn: conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()))


async def later(database: Database, months: int) -> int:
    """Start of a month to come."""
    at_ms = await database.read(now_ms)
    for _ in range(months):
        at_ms = next_month_ms(at_ms)
    return at_ms


@pytest.mark.parametrize(
    ("at_ms", "following_ms"), [(1_798_675_200_000, 1_798_761_600_000), (1_769_904_000_000, 1_772_323_200_000)]
)
def test_the_next_month_begins_in_utc_over_the_end_of_the_year_and_in_february(at_ms: int, following_ms: int):
    assert next_month_ms(at_ms) == next_month_ms(at_ms + 1) == following_ms


async def test_this_month_and_the_next_ones_are_made_once(migrated: Database):
    made = await asyncio.gather(*(migrated.write(usage_partitions.make_ahead) for _ in range(5)))
    there = await migrated.read(usage_partitions.partitions)
    assert sorted(name for each in made for name in each) == [each.name for each in there[1:]]
    assert there[0].name == "usage_log_before"
    assert [each.to_ms for each in there[:-1]] == [each.from_ms for each in there[1:]]
    assert there[-1].covers(await later(migrated, MONTHS_AHEAD))
    assert await migrated.read(usage_partitions.faults) == []


async def test_rows_of_any_time_are_kept_and_the_doctor_tells_of_those_without_a_month(migrated: Database):
    await migrated.write(usage_partitions.make_ahead)
    far = await later(migrated, 30)
    await add(migrated, 0, await migrated.read(now_ms), await later(migrated, 2), far)
    assert await count(migrated) == 4
    assert await count(migrated, DEFAULT) == 1
    [said] = await migrated.read(usage_partitions.faults)
    assert said.startswith("1 rows from 20")


async def test_a_month_made_late_takes_its_rows_along(migrated: Database):
    late = await later(migrated, 3)
    await add(migrated, late, late + DAY_MS, await later(migrated, 30))
    assert await migrated.read(usage_partitions.faults) != []
    await migrated.write(usage_partitions.make_ahead)
    assert (await count(migrated), await count(migrated, DEFAULT)) == (3, 1)
    assert await count(migrated, f"usage_log_{usage_partitions._utc(late):%Y_%m}") == 2


async def test_a_month_has_the_keys_of_the_log(migrated: Database):
    """A row that comes twice is inserted once, there too."""
    await migrated.write(usage_partitions.make_ahead)
    row = usage_row(at_ms=await later(migrated, 2))
    assert [await migrated.write(lambda conn: usage_log.add(conn, [row])) for _ in range(2)] == [1, 0]


async def test_months_past_retention_are_dropped_whole_and_what_is_left_of_one_in_batches(migrated: Database):
    await migrated.write(usage_partitions.make_ahead)
    first = (await migrated.read(usage_partitions.partitions))[0].to_ms
    await add(migrated, first - 2, first - 1, first, first + 1, first + 2)
    there = await names(migrated)
    assert await migrated.write(lambda conn: usage_partitions.drop_before(conn, first + 2)) == there[:1]
    assert await names(migrated) == there[1:]
    deleted = [await migrated.write(lambda conn: usage_log.delete_before(conn, first + 2, limit=1)) for _ in range(3)]
    assert deleted == [1, 1, 0]
    assert await count(migrated) == 1


async def test_a_month_that_is_being_read_is_dropped_later_and_holds_nobody_up_meanwhile(migrated: Database):
    await migrated.write(usage_partitions.make_ahead)
    first = (await migrated.read(usage_partitions.partitions))[0].to_ms
    reading, go = asyncio.Event(), asyncio.Event()

    def read(conn: sa.Connection) -> None:
        conn.execute(sa.select(sa.func.count()).select_from(tables.usage_log))
        reading.set()
        sa.util.await_only(go.wait())

    report = asyncio.create_task(migrated.read(read))
    await reading.wait()
    with pytest.raises(LedgerUnavailable):
        await migrated.write(lambda conn: usage_partitions.drop_before(conn, first))
    await add(migrated, first)
    go.set()
    await report
    assert await migrated.write(lambda conn: usage_partitions.drop_before(conn, first)) == ["usage_log_before"]


async def test_sqlite_has_one_table_and_nothing_to_do(database: Database):
    if database.url.get_backend_name() == "sqlite":
        assert await database.write(usage_partitions.make_ahead) == []
        assert await database.write(lambda conn: usage_partitions.drop_before(conn, 2**62)) == []
        assert await database.read(usage_partitions.faults) == []
