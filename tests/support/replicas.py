"""Replicas of the gateway that share PostgreSQL, Valkey, pictures and one fake provider."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gateway.demo.provider import FakeProvider, running
from gateway.resources import migrate_database
from gateway.storage import tables
from gateway.storage.database import open_database
from tests.support.gateway import ADMIN_KEY, Gateway, GatewayProcess, running_gateway, settings_for
from tests.support.http_client import open_client
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer

SECURITY = {"admin_key": ADMIN_KEY, "secrets": ["s" * 32]}


@dataclass
class Engines:
    """What the replicas share. `redis_port` and `postgres_port` may be those of proxies in between."""

    folder: Path
    postgres: PostgresServer
    database: Any
    redis_port: int
    postgres_port: int
    redis_timeout_s: float = 1.0
    more: dict[str, Any] = field(default_factory=dict)
    """Further top-level settings of every replica."""

    def settings(self, number: int) -> dict[str, Any]:
        return {
            "data_dir": self.folder / f"replica-{number}" / "data",
            "database_url": self.database.set(port=self.postgres_port).render_as_string(),
            "redis_url": f"redis://127.0.0.1:{self.redis_port}/0",
            "redis_timeout_s": self.redis_timeout_s,
            # a thousand calls at once for one budget take their time on a busy machine
            "database": {"pool_wait_s": 300, "lock_timeout_s": 200, "statement_timeout_s": 300},
            "image_store": {"kind": "local", "path": str(self.folder / "images")},
            "security": SECURITY,
            **self.more,
        }


async def engines_for(folder: Path, postgres: PostgresServer, valkey: ValkeyServer, **chosen: Any) -> Engines:
    """A database of their own, migrated; Valkey is the test's alone already."""
    database = await asyncio.to_thread(postgres.create_database)
    ports: dict[str, Any] = {"redis_port": valkey.port, "postgres_port": database.port, **chosen}
    engines = Engines(folder, postgres, database, **ports)
    direct = Engines(folder, postgres, database, redis_port=valkey.port, postgres_port=database.port or 0)
    settings = settings_for(provider_url="http://127.0.0.1:1", port=free_port(), **direct.settings(0))
    await migrate_database(settings)
    return engines


async def expire_leases(engines: Engines) -> None:
    """As if a minute had gone by in which nobody renewed them."""
    database = open_database(engines.database)
    expired = sa.update(tables.generations).values(lease_until_ms=0)
    await database.write(lambda conn: conn.execute(expired))
    await database.close()


@dataclass
class Fleet:
    """Replicas in this event loop, each a whole application on a port of its own. Calls go to each in turn."""

    gateways: Sequence[Gateway]
    fake: FakeProvider
    turn: int = field(default=0)

    @property
    def first(self) -> Gateway:
        return self.gateways[0]

    @property
    def next(self) -> Gateway:
        self.turn += 1
        return self.gateways[self.turn % len(self.gateways)]


@asynccontextmanager
async def fleet(engines: Engines, fake: FakeProvider, *, replicas: int = 3, **overrides: Any) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        provider_url = await stack.enter_async_context(running(fake))
        gateways = []
        for number in range(replicas):
            values = {**engines.settings(number), **overrides}
            settings = settings_for(provider_url=provider_url, port=free_port(), **values)
            gateways.append(await stack.enter_async_context(running_gateway(settings)))
        yield Fleet(gateways, fake)


class ProcessFleet:
    """Replicas as processes, to be killed, frozen and restarted one by one."""

    def __init__(self, processes: Sequence[GatewayProcess], gateways: Sequence[Gateway]) -> None:
        self.processes = processes
        self.gateways = gateways
        self._turn = 0

    @property
    def next(self) -> Gateway:
        self._turn += 1
        return self.gateways[self._turn % len(self.gateways)]


@asynccontextmanager
async def process_fleet(
    engines: Engines,
    provider_url: str,
    *,
    replicas: int = 3,
    environments: Mapping[int, Mapping[str, str]] | None = None,
    provider: Mapping[str, Any] | None = None,
    **server: Any,
) -> AsyncIterator[ProcessFleet]:
    """`environments`: more of the environment of single replicas."""
    processes = []
    for number in range(replicas):
        values = engines.settings(number)
        data_dir = values.pop("data_dir")
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        environment = (environments or {}).get(number)
        process = GatewayProcess(
            data_dir, provider_url, engines.folder / f"replica-{number}.log", provider=provider, others=values,
            environment=environment, **server,
        )  # fmt: skip
        processes.append(process)
    async with open_client(connect_timeout_s=30) as http:
        try:
            await asyncio.gather(*(process.start() for process in processes))
            yield ProcessFleet(processes, [Gateway(process.base_url, http) for process in processes])
        finally:
            for process in processes:
                process.kill()


@asynccontextmanager
async def calling(gateway: Gateway, key: str) -> AsyncIterator[Counter[int]]:
    """Eight callers that never stop asking, each for new pictures and then for the same again. The statuses so far;
    complete after the block.
    """
    statuses: Counter[int] = Counter()
    stop = asyncio.Event()

    async def caller(number: int) -> None:
        seed = 0
        while not stop.is_set():
            seed += 1
            answer = await gateway.generate(key, seed=number * 1000 + 1 + seed // 2, image_size="square")
            statuses[answer.status_code] += 1

    callers = asyncio.gather(*(caller(number) for number in range(8)))
    yield statuses
    stop.set()
    await callers
