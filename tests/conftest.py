"""What every test may ask for: an empty database of either engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from sqlalchemy.engine import URL

from gateway.storage import tables
from gateway.storage.database import Database, open_database
from tests.support.administrators import Organisation, organisation
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.s3 import S3Server, running_s3
from tests.support.valkey import ValkeyServer, running_valkey

# A busy machine makes an example slow, not wrong: no test passes or fails by the clock.
settings.register_profile("darkroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("darkroom")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that the gateway is served on. (On asyncio's own, asyncpg leaves a future nobody asks for when a
    connection is given up while it is made; anyio holds that against the test.)
    """
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def _valkey_of_the_session() -> Iterator[ValkeyServer]:
    with running_valkey() as server:
        yield server


@pytest.fixture
def valkey(_valkey_of_the_session: ValkeyServer) -> ValkeyServer:
    """Empty."""
    _valkey_of_the_session.flush()
    return _valkey_of_the_session


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """A database of its own for the test, with every table, empty."""
    if request.param == "sqlite":
        url = URL.create("sqlite", database=str(tmp_path / "darkroom.db"))
        engine = sa.create_engine(url)
        tables.metadata.create_all(engine)
        engine.dispose()
        yield url
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database(tables.metadata) as url:
            yield url


@pytest.fixture
async def database(database_url: URL) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Organisation]:
    """Two teams with a live purchase each, and an administrator of every role."""
    async with organisation(tmp_path / "data") as made:
        yield made
