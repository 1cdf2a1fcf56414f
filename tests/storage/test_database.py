"""One door to SQL: addresses, transactions, and a server that is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from gateway.errors import ConfigurationError, LedgerUnavailable
from gateway.storage import tables, tables_accounts
from gateway.storage.database import Database, PostgresOptions, SqliteDatabase, database_url, now_ms, open_database
from tests.support.line import line_to
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.waiting import until

TEAM = {"id": "team_1", "name": "Search", "labels": {}, "created_ms": 1}


def insert(conn: sa.Connection, **changes) -> None:
    conn.execute(tables_accounts.teams.insert().values(TEAM | changes))


async def count(database: Database) -> int:
    found = sa.select(sa.func.count()).select_from(tables_accounts.teams)
    return await database.read(lambda conn: int(conn.execute(found).scalar_one()))


def test_no_address_is_sqlite_in_the_data_folder(tmp_path: Path):
    url = database_url(None, tmp_path)
    assert (url.drivername, url.database) == ("sqlite", str(tmp_path / "darkroom.db"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_way_to_write_postgresql_is_understood(scheme: str, tmp_path: Path):
    url = database_url(f"{scheme}://u:p%40ss@db.test:6432/darkroom?application_name=x", tmp_path)
    assert url.drivername == "postgresql+asyncpg"
    assert (url.username, url.password, url.host, url.port, url.database) == ("u", "p@ss", "db.test", 6432, "darkroom")
    assert dict(url.query) == {"application_name": "x"}


def test_sslmode_of_libpq_becomes_ssl_of_asyncpg(tmp_path: Path):
    url = database_url("postgres://u@db.test/darkroom?sslmode=verify-full", tmp_path)
    assert dict(url.query) == {"ssl": "verify-full"}


def test_a_sqlite_address_stays_as_it_is(tmp_path: Path):
    assert database_url("sqlite:////tmp/x.db", tmp_path) == make_url("sqlite:////tmp/x.db")


@pytest.mark.parametrize(
    ("text", "said"), [("no url", "is not a URL"), ("mysql://u:secret@h/db", "mysql is not supported")]
)
def test_an_address_that_cannot_be_used_is_refused_without_showing_the_password(text: str, said: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=said) as refused:
        database_url(text, tmp_path)
    assert "secret" not in refused.value.message


async def test_work_that_raises_leaves_nothing(database: Database):
    def work(conn: sa.Connection) -> None:
        insert(conn)
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        await database.write(work)
    assert await count(database) == 0


async def test_a_mistake_in_a_statement_stays_a_mistake_and_the_next_work_is_fine(database: Database):
    with pytest.raises(sa.exc.DBAPIError):
        await database.write(lambda conn: conn.exec_driver_sql("SELECT nonsense FROM teams"))
    await database.write(insert)
    with pytest.raises(sa.exc.IntegrityError):
        await database.write(insert)
    assert await count(database) == 1


async def test_readers_see_what_is_committed_and_nothing_else(database: Database):
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def work(conn: sa.Connection) -> None:
        insert(conn)
        if conn.dialect.name == "sqlite":  # in a thread of its own, so another may read meanwhile
            seen.append(asyncio.run_coroutine_threadsafe(count(database), loop).result(10))
        insert(conn, id="team_2")

    if database.url.get_backend_name() == "sqlite":
        await database.write(work)
    else:
        await asyncio.gather(database.write(work), *(_note(seen, database) for _ in range(20)))
    assert set(seen) <= {0, 2}
    assert await count(database) == 2


async def _note(seen: list[int], database: Database) -> None:
    seen.append(await count(database))


async def test_writers_at_once_lose_nothing(database: Database):
    await database.write(insert)
    add = sa.update(tables_accounts.teams).values(created_ms=tables_accounts.teams.c.created_ms + 1)
    await asyncio.gather(*(database.write(lambda conn: conn.execute(add)) for _ in range(100)))
    found = sa.select(tables_accounts.teams.c.created_ms)
    assert await database.read(lambda conn: conn.execute(found).scalar_one()) == 101


class Doorkeeper:
    """A write that keeps the thread until those behind it have been handed in."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._inside = threading.Event()
        self._open = threading.Event()

    async def enter(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._database.write(self._wait))
        await asyncio.to_thread(self._inside.wait)
        return task

    def _wait(self, _conn: sa.Connection) -> None:
        self._inside.set()
        self._open.wait()

    async def open(self) -> None:
        await asyncio.sleep(0)  # tasks begin, and hand in their work
        self._open.set()


async def test_writers_that_share_a_commit_fail_alone(tmp_path: Path):
    database = open_database(URL.create("sqlite", database=str(tmp_path / "x.db")))
    await database.write(tables.metadata.create_all)
    door = Doorkeeper(database)

    def insert_or_fail(conn: sa.Connection, number: int) -> int:
        insert(conn, id=f"team_{number}")
        if number % 3 == 0:
            raise ValueError(number)
        return number

    async def write(number: int) -> int:
        return await database.write(lambda conn: insert_or_fail(conn, number))

    first = await door.enter()
    others = [asyncio.create_task(write(number)) for number in range(50)]
    await asyncio.sleep(0)
    others[1].cancel()
    await door.open()
    await first
    found = await asyncio.gather(*others, return_exceptions=True)
    assert [type(each) for each in found[:3]] == [ValueError, asyncio.CancelledError, int]
    assert [each for each in found if isinstance(each, int)] == [n for n in range(2, 50) if n % 3]
    assert await count(database) == len([n for n in range(50) if n % 3])
    await database.close()


async def test_what_rolls_everything_back_is_a_refusal_to_all_who_share_the_commit(tmp_path: Path):
    def fill_the_disk(conn: sa.Connection) -> None:
        conn.exec_driver_sql("ROLLBACK")  # as SQLite does by itself
        raise OSError("the disk is full")

    database = open_database(URL.create("sqlite", database=str(tmp_path / "x.db")))
    await database.write(tables.metadata.create_all)
    door = Doorkeeper(database)
    first = await door.enter()
    good = asyncio.create_task(database.write(insert))
    bad = asyncio.create_task(database.write(fill_the_disk))
    await door.open()
    await first
    for shared in (good, bad):
        with pytest.raises(LedgerUnavailable):
            await shared
    assert await count(database) == 0
    await database.write(insert)
    assert await count(database) == 1
    await database.close()


async def test_the_databases_clock_gives_milliseconds_that_do_not_go_back(database: Database):
    times = [await database.read(now_ms) for _ in range(5)]
    assert times == sorted(times)
    assert all(type(at) is int and at > 1_700_000_000_000 for at in times)


async def test_json_keeps_nul_and_large_integers(database: Database):
    labels = {"nul": "a\u0000b", "large": 2**60, "emoji": "🖼"}
    await database.write(lambda conn: insert(conn, labels=labels))
    found = sa.select(tables_accounts.teams.c.labels)
    assert await database.read(lambda conn: conn.execute(found).scalar_one()) == labels


async def test_what_a_statement_was_given_is_in_no_error(database: Database):
    """F25: tracebacks are logged, and prompts are among what statements are given."""
    await database.write(insert)
    with pytest.raises(sa.exc.IntegrityError) as failed:
        await database.write(lambda conn: insert(conn, name="a canary"))
    assert "INSERT INTO teams" in str(failed.value)
    assert "canary" not in str(failed.value)


async def test_a_postgresql_that_cannot_be_reached_is_one_refusal():
    database = open_database(URL.create("postgresql+asyncpg", "u", host="127.0.0.1", port=free_port(), database="x"))
    for call in (database.read, database.write):
        with pytest.raises(LedgerUnavailable) as refused:
            await call(lambda conn: conn.exec_driver_sql("SELECT 1"))
        assert (refused.value.charged, refused.value.retry_after_s) == ("no", 5)
    await database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$",
        "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '25006'; END $$",
    ],
    ids=["connection lost", "deadlock", "disk full", "read-only"],
)
async def test_whatever_is_the_servers_fault_is_the_same_refusal(postgres: PostgresServer, statement: str):
    database = open_database(postgres.url("postgres"))
    with pytest.raises(LedgerUnavailable):
        await database.write(lambda conn: conn.exec_driver_sql(statement))
    assert await database.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one()) == 1
    await database.close()


def test_a_server_that_dies_in_a_transaction_is_a_refusal_and_the_next_finds_it_back():
    with running_postgres() as server:

        async def scenario() -> None:
            database = open_database(server.url("postgres"))

            def work(conn: sa.Connection) -> None:
                conn.exec_driver_sql("CREATE TABLE t (i int)")
                server.stop()
                conn.exec_driver_sql("INSERT INTO t VALUES (1)")

            with pytest.raises(LedgerUnavailable):
                await database.write(work)
            with pytest.raises(LedgerUnavailable):
                await database.read(lambda conn: conn.exec_driver_sql("SELECT 1"))
            server.start()
            look = "SELECT count(*) FROM pg_tables WHERE tablename = 't'"
            assert await database.read(lambda conn: conn.exec_driver_sql(look).scalar_one()) == 0
            await database.close()

        asyncio.run(scenario())


async def test_a_sqlite_file_that_cannot_be_opened_is_the_same_refusal(tmp_path: Path):
    database = open_database(URL.create("sqlite", database=str(tmp_path / "nowhere" / "x.db")))
    with pytest.raises(LedgerUnavailable):
        await database.write(lambda conn: conn.exec_driver_sql("SELECT 1"))
    await database.close()


async def test_sqlite_without_a_thread_is_the_same_refusal_until_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    database, done = SqliteDatabase(database_url(None, tmp_path)), list[str]()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", none_left)
        for run in (database.write, database.read):
            with pytest.raises(LedgerUnavailable):
                await run(lambda _: done.append("too early"))
    await database.write(lambda _: done.append("write"))
    await database.read(lambda _: done.append("read"))
    assert done == ["write", "read"]
    await database.close()


async def test_a_write_while_sqlite_is_being_closed_is_done_and_told_or_neither(tmp_path: Path):
    """Writers by the hundred, and the closing somewhere between them."""
    database, done = SqliteDatabase(database_url(None, tmp_path)), list[int]()

    async def write(number: int) -> int | None:
        try:
            await database.write(lambda _: done.append(number))
        except RuntimeError:
            return None
        return number

    first = [asyncio.create_task(write(number)) for number in range(200)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(database.close())
    told = [await write(number) for number in range(200, 400)]
    told += await asyncio.gather(*first)
    await closing
    assert sorted(done) == sorted(number for number in told if number is not None)
    assert len(done) >= 200
    assert None in told


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_two_transactions_in_each_others_way_both_succeed(database: Database):
    for team_id in ("team_a", "team_b"):
        await database.write(partial(insert, id=team_id))

    def rename(*team_ids: str):
        def work(conn: sa.Connection) -> None:
            for team_id in team_ids:
                conn.execute(tables_accounts.teams.update().filter_by(id=team_id).values(name=f"from {team_ids[0]}"))
                conn.execute(sa.text("SELECT pg_sleep(0.3)"))  # the other one takes its first row meanwhile

        return work

    await asyncio.gather(database.write(rename("team_a", "team_b")), database.write(rename("team_b", "team_a")))
    names = await database.read(lambda conn: set(conn.execute(sa.select(tables_accounts.teams.c.name)).scalars()))
    assert len(names) == 1


@asynccontextmanager
async def impatient(postgres: PostgresServer, **options: float) -> AsyncIterator[Database]:
    """With what is said, and with nothing else: a slow machine trips over no other time-out."""
    opened = open_database(postgres.url("postgres"), PostgresOptions(**options))  # type: ignore[arg-type]
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("options", "statement", "sqlstate"),
    [
        ({"statement_timeout_s": 1, "lock_timeout_s": 0.9}, "SELECT pg_sleep(60)", "57014"),
        ({"lock_timeout_s": 0.3}, "SELECT pg_advisory_lock(1)", "55P03"),
    ],
    ids=["statement", "lock"],
)
async def test_a_statement_or_a_lock_that_takes_too_long_is_a_refusal(
    postgres: PostgresServer, options: dict[str, float], statement: str, sqlstate: str
):
    holder = open_database(postgres.url("postgres"))
    held, go = asyncio.Event(), asyncio.Event()

    def hold(conn: sa.Connection) -> None:
        conn.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        held.set()
        sa.util.await_only(go.wait())

    holding = asyncio.create_task(holder.write(hold))
    await held.wait()
    async with impatient(postgres, **options) as database:
        with pytest.raises(LedgerUnavailable) as refused:
            await database.write(lambda conn: conn.exec_driver_sql(statement))
        go.set()
        await holding
        await holder.close()
        assert refused.value.__cause__.orig.sqlstate == sqlstate  # type: ignore[union-attr]
        assert await database.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one()) == 1


async def test_a_process_that_freezes_in_a_transaction_is_ended_by_the_server_and_gets_a_refusal(
    postgres: PostgresServer,
):
    patient = open_database(postgres.url("postgres"))

    def freeze(conn: sa.Connection) -> None:
        ended = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        look = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1"
        gone = partial(patient.read, lambda conn: conn.exec_driver_sql(look, (ended,)).scalar_one())
        sa.util.await_only(until(gone))
        conn.exec_driver_sql("SELECT 1")

    async with impatient(postgres, idle_in_transaction_timeout_s=0.5) as database:
        with pytest.raises(LedgerUnavailable):
            await database.write(freeze)
        assert await database.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one()) == 1
    await patient.close()


async def test_with_every_connection_taken_the_next_call_waits_and_is_refused(postgres: PostgresServer):
    go = asyncio.Event()
    taken = asyncio.Semaphore(0)

    def hold(conn: sa.Connection) -> None:
        taken.release()
        sa.util.await_only(go.wait())

    async with impatient(postgres, pool_size=2, pool_wait_s=0.3) as database:
        holding = [asyncio.create_task(database.write(hold)) for _ in range(2)]
        for _ in holding:
            await taken.acquire()
        with pytest.raises(LedgerUnavailable):
            await database.read(lambda conn: conn.exec_driver_sql("SELECT 1"))
        go.set()
        await asyncio.gather(*holding)


async def test_a_server_that_answers_nobody_is_a_refusal(postgres: PostgresServer):
    url = postgres.url("postgres")
    async with line_to(url.port or 0) as line:
        line.cut()
        database = open_database(url.set(port=line.port), PostgresOptions(connect_timeout_s=0.2))
        with pytest.raises(LedgerUnavailable):
            await database.read(lambda conn: conn.exec_driver_sql("SELECT 1"))
        await database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_commit_whose_answer_is_lost_is_a_refusal_and_is_done_once(database: Database):
    """The server does it and its answer goes nowhere: the line is cut, and nobody is told."""
    async with line_to(database.url.port or 0) as line:
        options = PostgresOptions(connect_timeout_s=1, statement_timeout_s=1, lock_timeout_s=0.5)
        remote = open_database(database.url.set(port=line.port), options)
        await remote.read(lambda conn: conn.exec_driver_sql("SELECT 1"))
        runs = 0

        def work(conn: sa.Connection) -> None:
            nonlocal runs
            runs += 1
            insert(conn)
            line.cut()

        with pytest.raises(LedgerUnavailable):
            await remote.write(work)
        assert (runs, await count(database)) == (1, 1)
        with pytest.raises(LedgerUnavailable):
            await remote.read(lambda conn: conn.exec_driver_sql("SELECT 1"))
        line.mend()
        assert await count(remote) == 1
        await remote.close()


async def test_a_commit_of_unknown_outcome_is_not_repeated(postgres: PostgresServer):
    database = open_database(postgres.url("postgres"))
    runs = 0

    def work(conn: sa.Connection) -> None:
        nonlocal runs
        runs += 1
        conn.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40003'; END $$")

    with pytest.raises(LedgerUnavailable):
        await database.write(work)
    assert runs == 1
    await database.close()


async def test_the_servers_list_of_sessions_names_us(postgres: PostgresServer):
    named = postgres.url("postgres").update_query_dict({"application_name": "studio"})
    for url, name in ((postgres.url("postgres"), "darkroom"), (named, "studio")):
        database = open_database(url)
        shown = await database.read(lambda conn: conn.exec_driver_sql("SHOW application_name").scalar_one())
        assert shown == name
        await database.close()
