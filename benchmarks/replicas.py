"""One replica and two, on PostgreSQL and Valkey: hits beside the embedded gateway, reservations, joins across them.

Hits: the same hot pictures, limits asked of Valkey for each. All processes share this machine's cores, the load too:
two replicas show what sharing costs rather than what a second machine brings. Reservations: a purchase reserved and
settled in PostgreSQL by twenty writers, of one user's budget (one row that all lock) and of a hundred users'. Joins:
the buyer asks one replica, an equal call the other; how much later the second has its answer.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvloop

from benchmarks.calls import bodies, body, write
from benchmarks.engines import Engines, running_engines
from benchmarks.hot_hits import PICTURES
from benchmarks.load import PATH, Generator
from benchmarks.rows import Bench, Found, Row, compared
from benchmarks.servers import Gateway, ProviderServer
from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.storage.database import open_database
from tests.support.ledger import Books, intent

CONNECTIONS = 32
WRITERS = 20
_JOIN_DELAY_S = 0.2
_BUDGET = 10**12


def measure(bench: Bench) -> Found:
    folder = bench.subfolder("replicas")
    with running_engines(folder) as engines:
        return Found([*_hits(bench, engines), *_reservations(bench, engines), *_joins(bench, engines)])


# -- hits --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hot:
    """The gateways that answer one set of pictures, and what asks them."""

    gateways: list[Gateway]
    generator: Generator

    def per_s(self, seconds: float) -> float:
        """Of all of them, each with its part of the connections."""
        connections = CONNECTIONS // len(self.gateways)

        def run(gateway: Gateway) -> float:
            return self.generator.run(gateway.base_url, connections=connections, seconds=seconds).per_s

        with ThreadPoolExecutor(len(self.gateways)) as threads:
            return sum(threads.map(run, self.gateways))


@contextmanager
def _hot(folder: Path, gateways: list[Gateway]) -> Iterator[_Hot]:
    folder.mkdir(exist_ok=True)
    wanted = bodies(range(1, PICTURES + 1))
    file = write(folder / "bodies", wanted)
    key = gateways[0].new_key()
    for gateway in gateways:
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            for each in wanted:
                client.post(gateway.base_url + PATH, json=each).raise_for_status()
    hot = _Hot(gateways, Generator(folder, file, key))
    hot.per_s(2)
    yield hot


def _hits(bench: Bench, engines: Engines) -> list[Row]:
    rounds, seconds = (2, 2) if bench.quick else (5, 4)
    embedded, one, two = list[float](), list[float](), list[float]()
    folder = engines.folder
    with (
        ProviderServer(folder / "provider.log") as provider,
        Gateway(folder / "embedded", provider.base_url) as alone,
        engines.replica(1, provider.base_url) as first,
        engines.replica(2, provider.base_url) as second,
        _hot(folder / "hot-embedded", [alone]) as hot_alone,
        _hot(folder / "hot-one", [first]) as hot_one,
        _hot(folder / "hot-two", [first, second]) as hot_two,
    ):
        for _ in range(rounds):
            embedded.append(hot_alone.per_s(seconds))
            one.append(hot_one.per_s(seconds))
            two.append(hot_two.per_s(seconds))
    options = {"more_is_better": True}
    return [
        compared(
            "Hits per second of one replica, beside the embedded gateway", one, embedded, "/s", reach=0.5, **options
        ),
        compared(
            "Hits per second of two replicas on this machine, beside the embedded gateway",
            two,
            embedded,
            "/s",
            **options,
        ),
    ]


# -- reservations ------------------------------------------------------------------------------------------------------


def _reservations(bench: Bench, engines: Engines) -> list[Row]:
    pairs = 400 if bench.quick else 2000
    hot, many = (uvloop.run(_pairs_per_s(engines, users, pairs)) for users in (1, 100))
    name, durable = "Purchases reserved and settled per second", "each commit on PostgreSQL's disk"
    return [
        Row(f"{name}, one budget", hot, "/s", more_is_better=True, ours=durable),
        Row(f"{name}, a hundred budgets", many, "/s", more_is_better=True, ours=durable),
    ]


async def _pairs_per_s(engines: Engines, users: int, pairs: int) -> float:
    """Reserve, mark as sent, settle; three transactions each."""
    database = open_database(engines.database)
    books = Books(database, owner="benchmark")
    left = iter(range(pairs))

    async def writer() -> None:
        for number in left:
            user = f"user_{users}_{number % users}"
            made = intent(user_id=user)
            budget = Limit(ScopeKind.USER, user, Metric.COST_USD, Window.MONTH, _BUDGET)
            await books.reserve(made, budget)
            await books.send(made.id)
            await books.answer(made.id)

    started = time.monotonic()
    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    taken_s = time.monotonic() - started
    await database.close()
    return pairs / taken_s


# -- joins -------------------------------------------------------------------------------------------------------------


def _joins(bench: Bench, engines: Engines) -> list[Row]:
    count = 30 if bench.quick else 200
    folder = engines.folder
    with (
        ProviderServer(folder / "slow-provider.log", _JOIN_DELAY_S) as provider,
        engines.replica(3, provider.base_url) as first,
        engines.replica(4, provider.base_url) as second,
    ):
        key = first.new_key()
        later_ms = sorted(uvloop.run(_later_ms(first, second, key, count)))
        bought = provider.state().calls
    if bought != count:
        raise RuntimeError(f"{count} pairs of equal calls made {bought} purchases")
    return [
        Row(
            "A join across replicas: behind its buyer, median", statistics.median(later_ms), "ms", ours=f"{count} joins"
        ),
        Row("A join across replicas: behind its buyer, p99", later_ms[len(later_ms) * 99 // 100], "ms"),
    ]


async def _later_ms(first: Gateway, second: Gateway, key: str, count: int) -> list[float]:
    found = []
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:

        async def ask(gateway: Gateway, seed: int, delay_s: float) -> float:
            await asyncio.sleep(delay_s)
            answer = await client.post(gateway.base_url + PATH, json=body(seed))
            answer.raise_for_status()
            return time.monotonic()

        for seed in range(100_000, 100_000 + count):
            bought, joined = await asyncio.gather(ask(first, seed, 0), ask(second, seed, _JOIN_DELAY_S / 2))
            found.append((joined - bought) * 1000)
    return found
