"""One door to SQL for every store, on SQLite and on PostgreSQL.

A store's work is a plain function over a SQLAlchemy `Connection`. On PostgreSQL it runs on asyncpg (SQLAlchemy
bridges the two); on SQLite it runs in a thread: one thread that writes, under BEGIN IMMEDIATE, and a few that read.
A transaction is therefore one hop to a thread, not one for each statement, and SQLite never meets its own lock.
Writes that wait for the thread at the same moment share a commit.

Server gone: every call raises `LedgerUnavailable`, at the latest when the time-outs of `PostgresOptions` have run out.
Only a transaction that PostgreSQL itself rolled back whole to end a deadlock is run again here; for all else the caller
knows what may be repeated. A COMMIT whose answer was lost may have been done, so it is never among what is run again.
So `work` changes nothing but SQL.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from gateway.errors import ConfigurationError, LedgerUnavailable
from gateway.storage.prepared import driver_of, run_alone
from gateway.storage.sqlite_file import SqliteFile, is_damage
from gateway.threads import Job, Threads, to_thread

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

NOW_MS = {
    "sqlite": "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
}
"""The database's time in milliseconds since the epoch, in its own words."""

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

_READERS = 4
_WRITES_AT_ONCE = 32
_BUSY_TIMEOUT_S = 30
_ROLLED_BACK_WHOLE = ("40001", "40P01")  # serialization, deadlock; 40003 would be an outcome that nobody knows
_TURNS = 3
_GRACE_S = 5.0
_SERVER_STATES = (
    "08",  # connection lost or refused
    "25006",  # read-only: a standby, before or after a failover
    "25P03",  # idle in a transaction for too long
    "28",  # credentials
    "3D",  # no such database
    "40",  # rolled back: deadlock, serialization
    "53",  # no connections, memory or disk left
    "55P03",  # a lock not had in time
    "57",  # shutting down, starting up, cancelled (a statement that took too long)
    "58",  # I/O
)
"""Classes of SQLSTATE (PostgreSQL, appendix A) that say nothing against the statement."""


class Database(Protocol):
    """SQL, whichever engine is behind it."""

    url: URL

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction: commits when it returns, rolls back when it raises."""

    async def read(self, work: Work[T]) -> T:
        """Run `work` in one transaction that only reads."""

    def check(self) -> None:
        """Raises LedgerUnavailable once the file has shown damage: what is bought then might not be kept."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """How a process uses PostgreSQL. Whatever waits for longer than it may is a `LedgerUnavailable`.

    `pool_size`: connections, opened when needed and kept. `pool_wait_s`: for a free one. `connect_timeout_s`: for the
    server to take a new one. `statement_timeout_s`: for a statement, by the server, and 5 s later by us, in case the
    server is out of reach; None: any time. `lock_timeout_s`: for a lock. `idle_in_transaction_timeout_s`: after that
    long without a statement the server ends a transaction, so that a frozen process holds nobody up.
    """

    pool_size: int = 20
    pool_wait_s: float = 30
    connect_timeout_s: float = 10
    statement_timeout_s: float | None = 30
    lock_timeout_s: float = 10
    idle_in_transaction_timeout_s: float = 60


def open_database(url: URL, options: PostgresOptions | None = None) -> Database:
    """The database at `url`. Connects at the first use."""
    if url.get_backend_name() == "sqlite":
        return SqliteDatabase(url)
    return PostgresDatabase(url, options or PostgresOptions())


def database_url(text: str | None, data_dir: Path) -> URL:
    """The URL of the settings as SQLAlchemy wants it; None is SQLite in `data_dir`.

    `postgres://` and `postgresql://` are both understood, and libpq's `sslmode` becomes asyncpg's `ssl`.
    """
    if text is None:
        return URL.create("sqlite", database=str(data_dir / "darkroom.db"))
    try:
        url = make_url(text)
    except sa.exc.ArgumentError:
        raise ConfigurationError(
            "database_url is not a URL; write it like postgresql://user:password@host:5432/darkroom"
        ) from None
    if url.drivername == "sqlite":
        return url
    if url.drivername not in {"postgres", "postgresql", "postgresql+asyncpg"}:
        raise ConfigurationError(f"database_url: {url.drivername} is not supported; use postgresql:// or leave it null")
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


class SqliteDatabase:
    """SQLite in WAL mode. `synchronous=FULL`: a commit survives a loss of power, not only of the process."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = sa.create_engine(
            url,
            connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
            pool_size=_READERS + 1,
            max_overflow=0,
            hide_parameters=True,
        )
        sa.event.listen(self._engine, "connect", _prepare_sqlite)
        self._writer = Threads(1, name="darkroom-sql-write")
        self._readers = Threads(_READERS, name="darkroom-sql-read")
        self._waiting: deque[Job[Any]] = deque()
        self._own = threading.local()
        self._file = SqliteFile(url.database)
        self._opened: list[sa.Connection] = []
        """One a thread: taking one from the pool and giving it back costs more than what a transaction does."""

    async def write(self, work: Work[T]) -> T:
        write = Job(work)
        self._waiting.append(write)
        try:
            with _translated():
                self._writer.submit(self._write_waiting)
        except (RuntimeError, LedgerUnavailable):  # closing, or without a thread
            if self._withdraw(write):
                raise
        with self._file.noting_damage():
            return await write.done

    def _withdraw(self, write: Job[Any]) -> bool:
        """False: a piece of work handed in before has taken it along, and will tell."""
        try:
            self._waiting.remove(write)
        except ValueError:
            return False
        return True

    async def read(self, work: Work[T]) -> T:
        with self._file.noting_damage(), _translated():
            return await self._readers.run(self._read, work)

    def check(self) -> None:
        if self._file.damage is not None:
            raise _unusable() from self._file.damage

    def _read(self, work: Work[T]) -> T:
        return _run(self._connection(), work, "DEFERRED")

    def _write(self, work: Work[T]) -> T:
        with _translated():
            return _run(self._connection(), work, "IMMEDIATE")

    def _connection(self) -> sa.Connection:
        """This thread's."""
        self._file.require_same()
        conn: sa.Connection | None = getattr(self._own, "connection", None)
        if conn is None:
            conn = self._own.connection = self._engine.connect()
            self._opened.append(conn)
            self._file.note_opened()
        return conn

    def _write_waiting(self) -> None:
        """Whatever waits by now, in one transaction: under load most of a small one is the disk's confirmation.

        Each is whole or not at all by itself; and none is known to be done before all are on disk.
        """
        writes: list[Job[Any]] = []
        with suppress(IndexError):  # no more are waiting
            while len(writes) < _WRITES_AT_ONCE:
                writes.append(self._waiting.popleft())
        if not writes:
            return
        try:
            if len(writes) == 1:
                self._write(writes[0].perform)
            else:
                self._write(lambda conn: _write_each(conn, writes))
        except BaseException as exc:  # noqa: BLE001  (whatever it is, it is for those who wait to hear)
            for write in writes:
                write.error = exc
        for write in writes:
            write.tell()

    async def close(self) -> None:
        """Waits for the work already handed in."""
        await to_thread(self._shut)

    def _shut(self) -> None:
        self._writer.close()
        self._readers.close()
        for conn in self._opened:
            conn.close()
        self._engine.dispose()


def _write_each(conn: sa.Connection, writes: Sequence[Job[Any]]) -> None:
    """Some failures (disk full) SQLite answers by rolling back everything: then all fail."""
    driver = driver_of(conn)
    for write in writes:
        run_alone(conn, "SAVEPOINT work")
        try:
            with _translated():
                write.perform(conn)
        except Exception as exc:
            if not driver.in_transaction:
                raise
            write.error = exc
            run_alone(conn, "ROLLBACK TO work")
        run_alone(conn, "RELEASE work")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # `_run` says BEGIN: sqlite3 would leave reads outside the transaction
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _run(conn: sa.Connection, work: Work[T], kind: str) -> T:
    with conn.begin():
        run_alone(conn, f"BEGIN {kind}")
        return work(conn)


class PostgresDatabase:
    """PostgreSQL through asyncpg. READ COMMITTED: every guard is one statement's WHERE, never read-then-write."""

    def __init__(self, url: URL, options: PostgresOptions) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  (brings the ORM; SQLite needs neither)

        self.url = url
        self._engine: AsyncEngine = create_async_engine(
            url.difference_update_query(["application_name"]),
            pool_size=options.pool_size,
            max_overflow=0,
            pool_timeout=options.pool_wait_s,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=_connect_args(options, name=str(url.query.get("application_name", "darkroom"))),
        )

    async def write(self, work: Work[T]) -> T:
        with _translated():
            for _ in range(_TURNS - 1):
                try:
                    return await self._run(work)
                except sa.exc.DBAPIError as exc:
                    if _sqlstate(exc) not in _ROLLED_BACK_WHOLE:
                        raise
            return await self._run(work)

    read = write

    def check(self) -> None:
        """Never: damage is the server's to know."""

    async def _run(self, work: Work[T]) -> T:
        async with self._engine.begin() as conn:
            return await conn.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


def _connect_args(options: PostgresOptions, *, name: str) -> dict[str, Any]:
    """asyncpg's, and what it tells the server: 0 turns a time-out off there."""
    statement_s = options.statement_timeout_s
    timeouts_s = {
        "statement_timeout": statement_s or 0,
        "lock_timeout": options.lock_timeout_s,
        "idle_in_transaction_session_timeout": options.idle_in_transaction_timeout_s,
    }
    return {
        "timeout": options.connect_timeout_s,
        "command_timeout": None if statement_s is None else statement_s + _GRACE_S,
        "server_settings": {"application_name": name}
        | {setting: f"{round(seconds * 1000)}ms" for setting, seconds in timeouts_s.items()},
    }


@contextmanager
def _translated() -> Any:
    """A database that can't be reached or written is one refusal to all above; a mistake of ours stays what it is."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError) as exc:
        if isinstance(exc, sa.exc.DBAPIError) and not _is_the_servers(exc):
            raise
        raise _unusable() from exc


def _unusable() -> LedgerUnavailable:
    return LedgerUnavailable("The gateway's database can't be used right now.", retry_after_s=5, charged="no")


def _is_the_servers(exc: sa.exc.DBAPIError) -> bool:
    """Whether the server (or SQLite's file) is at fault, not the statement. asyncpg reports by SQLSTATE alone."""
    if is_damage(exc):
        return True
    if isinstance(exc.orig, sqlite3.OperationalError):
        return exc.orig.sqlite_errorcode != sqlite3.SQLITE_ERROR
    if isinstance(exc, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.InternalError):
        return True
    return exc.connection_invalidated or _sqlstate(exc).startswith(_SERVER_STATES)


def _sqlstate(exc: sa.exc.DBAPIError) -> str:
    return str(getattr(exc.orig, "sqlstate", None) or "")


def now_ms(conn: sa.Connection) -> int:
    """The database's time in milliseconds since the epoch: windows and leases never depend on a replica's clock.

    SQLite has no clock but its machine's, which Python reads sooner.
    """
    if conn.dialect.name == "sqlite":
        return time.time_ns() // 1_000_000
    found: int = conn.exec_driver_sql(f"SELECT {NOW_MS['postgresql']}").scalar_one()
    return found


def insert(conn: sa.Connection, table: sa.Table) -> Any:
    """An INSERT of the engine's own dialect: both know ON CONFLICT, SQLAlchemy's common one does not."""
    return insert_for(conn.dialect.name, table)


def insert_for(dialect: str, table: sa.Table) -> Any:
    """The same for statements that are built once, and run with parameters: to build takes longer than to run."""
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415  (a choice of dialect, not a dependency)

    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


class Json(sa.TypeDecorator[Any]):
    """JSON in a text column: NUL stays escaped, which PostgreSQL's own types refuse, and integers stay exact.

    `read_as`: the type that comes back, if it is not what JSON itself says.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, read_as: Any = Any) -> None:
        super().__init__()
        self.read_as = read_as

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        return None if value is None else msgspec.json.decode(value, type=self.read_as)
