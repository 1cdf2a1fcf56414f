"""Two replicas under mixed load while everything they share fails once: bill beside books. Part of `make soak`.

One replica after the other is killed, PostgreSQL is killed and started again, and Redis is failed over to a replica
that lost its last second. SOAK_REPLICAS_S (60) is how long the load lasts; SOAK_SEED makes the same chances again.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from gateway.demo.provider import FakeProvider, running
from gateway.storage.database import open_database
from tests.soak.load import SEED, MixedLoad, impatient_provider
from tests.soak.verdict import CALLS_AND_COST, IDS, TOTALS, compare, differences, quiet, usage_faults
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.proxy import Proxy, proxy_to
from tests.support.replicas import Engines, ProcessFleet, engines_for, process_fleet
from tests.support.valkey import ValkeyServer, running_valkey

SECONDS = float(os.environ.get("SOAK_REPLICAS_S", "60"))
_PROVIDER_KEYS = ["provider-secret", "second-secret"]
_LOST_S = 1.0
"""What the replica of Redis has not heard of when it becomes the primary."""


class InTurn:
    """The replicas as one gateway: each call goes to the next."""

    def __init__(self, replicas: ProcessFleet) -> None:
        self._replicas = replicas

    async def generate(self, key: str, **call: Any) -> httpx.Response:
        return await self._replicas.next.generate(key, **call)


async def main() -> int:
    fake = FakeProvider(keys=_PROVIDER_KEYS, delay_s=0.1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-soak-")))
        postgres = stack.enter_context(running_postgres())
        primary, second = (stack.enter_context(running_valkey()) for _ in range(2))
        async with proxy_to(primary.port) as proxy, running(fake) as url:
            engines = await engines_for(folder, postgres, primary, redis_port=proxy.port)
            async with process_fleet(engines, url, replicas=2, provider=impatient_provider(_PROVIDER_KEYS)) as replicas:
                return await soak(engines, replicas, fake, Redis(primary, second, proxy), postgres)


class Redis:
    """A primary with a replica, behind an address that stays."""

    def __init__(self, primary: ValkeyServer, second: ValkeyServer, proxy: Proxy) -> None:
        self._primary, self._second, self._proxy = primary, second, proxy
        with second.client() as client:
            client.replicaof("127.0.0.1", str(primary.port))

    async def fail_over(self) -> None:
        """To a replica that lost the last second: it stops following, and a second later the primary dies."""
        with self._second.client() as client:
            client.replicaof("NO", "ONE")
            assert client.dbsize() > 0, "the replica has nothing: it never followed"
        await asyncio.sleep(_LOST_S)
        self._primary.kill()
        await self._proxy.turn_to(self._second.port)


async def soak(
    engines: Engines, replicas: ProcessFleet, fake: FakeProvider, redis: Redis, postgres: PostgresServer
) -> int:
    started = time.monotonic()
    limits = [
        {"metric": "cost_usd", "window": "month", "amount": "1000000"},
        {"metric": "requests", "window": "minute", "amount": "100000"},
        {"metric": "requests", "window": "month", "amount": "10000000"},
    ]
    first = replicas.gateways[0]
    keys = [await first.new_key(limits=limits) for _ in range(3)]
    load = MixedLoad(InTurn(replicas), fake, keys, seed=SEED)  # type: ignore[arg-type]
    callers = asyncio.create_task(load.run())
    part_s = SECONDS / 5
    await asyncio.sleep(part_s)
    await redis.fail_over()
    await asyncio.sleep(part_s)
    for process in replicas.processes:
        process.kill()
        await process.start()
        await asyncio.sleep(part_s)
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)
    await asyncio.sleep(part_s)
    callers.cancel()
    await asyncio.gather(callers, return_exceptions=True)
    fake.script.clear()
    fake.mend_images()
    rows = await quiet(first)
    for gateway in replicas.gateways:
        await gateway.usage()  # which flushes its journal
    figures = {
        "seed": SEED,
        "seconds": round(time.monotonic() - started),
        "calls": sum(load.outcomes.values()),
        "outcomes": dict(sorted(load.outcomes.items())),
        "purchases": len(rows),
        "states": dict(Counter(row["status"] for row in rows)),
    }
    wrong = [*differences(rows, fake), *await logged_faults(engines, load.answered)]
    print(json.dumps(figures | compare(rows, fake), indent=2))  # noqa: T201
    print("\n".join(wrong) or "Bill and books are equal, to the micro-dollar.")  # noqa: T201
    return 1 if wrong else 0


async def logged_faults(engines: Engines, answered: set[str]) -> list[str]:
    database = open_database(engines.database)

    def look(conn: sa.Connection) -> list[str]:
        ids = list(conn.exec_driver_sql(IDS).scalars())
        found = [conn.exec_driver_sql(sums).one() for sums in (CALLS_AND_COST, TOTALS)]
        calls_and_cost, totals = ((int(calls), int(cost)) for calls, cost in found)
        return usage_faults(ids, calls_and_cost, totals, answered)

    try:
        return await database.read(look)
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
