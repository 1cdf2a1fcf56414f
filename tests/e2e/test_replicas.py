"""Three replicas with PostgreSQL and Valkey: what must hold of one process holds of all together."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.provider import FakeProvider
from tests.e2e.test_money import billed, books, month_budget
from tests.support.console import Visitor, signed_in, words_of
from tests.support.gateway import ADMIN_KEY, Gateway
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy, proxy_to
from tests.support.replicas import Engines, Fleet, engines_for, fleet
from tests.support.valkey import ValkeyServer, running_valkey
from tests.support.waiting import until

PRICE = Decimal("0.065")


@pytest.fixture
async def proxied(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
) -> AsyncIterator[tuple[Engines, Proxy]]:
    """Valkey behind a proxy that can lose things."""
    async with proxy_to(valkey.port) as proxy:
        yield await engines_for(tmp_path, postgres, valkey, redis_port=proxy.port), proxy


async def all_at_once(replicas: Fleet, key: str, seeds: list[int], **fields: Any) -> list[httpx.Response]:
    calls = [replicas.next.generate(key, seed=seed, image_size="square", **fields) for seed in seeds]
    return await asyncio.gather(*calls)


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


async def settled(replicas: Fleet) -> None:
    """Nothing is held of any limit, and every replica's usage rows are in SQL."""

    async def quiet() -> bool:
        rows = await replicas.first.generations(mode="live")
        return not any(row["status"] in {"pending", "sent", "answered"} for row in rows)

    await until(quiet)
    for gateway in replicas.gateways:
        await gateway.usage()  # which flushes its journal first


async def test_two_hundred_equal_calls_to_three_replicas_are_bought_once(engines: Engines) -> None:
    """F1."""
    async with fleet(engines, FakeProvider(delay_s=2)) as replicas:
        keys = [await replicas.first.new_key() for _ in range(4)]
        calls = [replicas.next.generate(keys[number % 4], seed=7) for number in range(200)]
        answers = await asyncio.gather(*calls)
        assert statuses(answers) == {200: 200}
        assert len(replicas.fake.bill) == replicas.fake.calls == 1
        # addresses are each replica's own
        assert len({answer.content.replace(answer.url.netloc, b"") for answer in answers}) == 1
        costs = Counter(answer.headers["darkroom-cost-usd"] for answer in answers)
        assert costs == {"0": 199, "0.065": 1}
        await settled(replicas)
        usage = await replicas.first.usage()
        assert (usage["requests"], usage["generations"], usage["joined"] + usage["hits"]) == (200, 1, 199)


async def test_those_who_wait_elsewhere_are_told_and_need_not_poll(engines: Engines, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.services.following._POLL_S", 3600)
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    async with fleet(engines, fake, replicas=2) as replicas:
        key = await replicas.first.new_key()
        bought = asyncio.create_task(replicas.gateways[0].generate(key, seed=7))
        await fake.wait_for_calls(1)
        joined = asyncio.create_task(replicas.gateways[1].generate(key, seed=7))
        following = replicas.gateways[1].resources.generator._following

        async def follows() -> bool:
            return len(following) == 1

        await until(follows)
        fake.gate.set()
        assert {(await bought).status_code, (await joined).status_code} == {200}
        assert (await joined).headers["cache-status"] == "darkroom; fwd=miss; collapsed"
        assert len(fake.bill) == 1


async def test_a_thousand_at_three_replicas_with_a_budget_for_a_hundred(engines: Engines) -> None:
    """F8."""
    async with fleet(engines, FakeProvider(delay_s=0.5)) as replicas:
        key = await replicas.first.new_key(limits=[month_budget("6.5")])
        answers = await all_at_once(replicas, key, list(range(1, 1001)))
        assert statuses(answers) == {200: 100, 429: 900}
        await settled(replicas)
        assert billed(replicas.fake) == await books(replicas.first) == 100 * PRICE
        refusals = [answer.json()["error"]["data"] for answer in answers if answer.status_code == 429]
        assert all((each["limit"], each["left"]) == ("user-cost_usd-month", "0") for each in refusals)


@pytest.mark.parametrize("fate", ["kill", "flush", "freeze"])
async def test_a_budget_is_exact_when_redis_goes_in_the_middle(
    tmp_path: Path, postgres: PostgresServer, fate: str
) -> None:
    """F9, of 400 calls with a budget for 40."""
    with running_valkey() as valkey:
        engines = await engines_for(tmp_path, postgres, valkey)
        fake = FakeProvider(delay_s=0.5)
        async with fleet(engines, fake) as replicas:
            key = await replicas.first.new_key(limits=[month_budget("2.6")])
            calls = asyncio.create_task(all_at_once(replicas, key, list(range(1, 401))))
            await fake.wait_for_calls(10)
            getattr(valkey, fate)()
            answers = await calls
            assert statuses(answers) == {200: 40, 429: 360}
            await settled(replicas)
            assert billed(fake) == await books(replicas.first) == 40 * PRICE


async def test_limits_of_requests_hold_for_all_replicas_together(engines: Engines) -> None:
    limits = [
        {"metric": "requests", "window": "minute", "amount": "60"},
        {"metric": "requests", "window": "day", "amount": "50"},
    ]
    async with fleet(engines, FakeProvider()) as replicas:
        key = await replicas.first.new_key(limits=limits)
        assert (await replicas.first.generate(key, seed=1)).status_code == 200
        for gateway in replicas.gateways:  # a hit by way of the application, after which heads are known
            assert (await gateway.generate(key, seed=1)).status_code == 200
        await asyncio.gather(*(replicas.next.generate(key, seed=1) for _ in range(120)))
        answers = await asyncio.gather(*(replicas.next.generate(key, seed=1) for _ in range(120)))
        assert sum(answer.status_code == 200 for answer in answers) == 0
        assert {answer.json()["error"]["code"] for answer in answers} == {"quota_exceeded"}
        await settled(replicas)
        usage = await replicas.first.usage()
        assert usage["requests"] - usage["errors"] == 50


async def test_a_hit_at_any_replica_costs_nothing_and_counts_against_its_limits(engines: Engines) -> None:
    async with fleet(engines, FakeProvider()) as replicas:
        limit = {"metric": "requests", "window": "hour", "amount": "100"}
        key = await replicas.first.new_key(limits=[limit])
        assert (await replicas.first.generate(key, seed=1)).headers["cache-status"] == "darkroom; fwd=miss; stored"
        left = []
        for _ in range(9):
            answer = await replicas.next.generate(key, seed=1)
            assert answer.headers["cache-status"] == "darkroom; hit"
            left.append(answer.headers["ratelimit"].split(";r=")[1].split(";")[0])
        assert left == [str(100 - taken) for taken in range(2, 11)]
        picture = await replicas.next.get(answer.json()["data"][0]["url"])
        assert picture.status_code == 200
        assert len(replicas.fake.bill) == 1


@pytest.mark.parametrize("mood", ["lose_answers", "swallow"])
async def test_answers_of_redis_that_are_lost_have_no_double_effect(proxied: tuple[Engines, Proxy], mood: Any) -> None:
    """F10, F11: what Redis said is lost, or nothing comes at all; hits, purchases and refusals go on."""
    engines, proxy = proxied
    async with fleet(engines, FakeProvider(), replicas=2) as replicas:
        limits = [month_budget("1.3"), {"metric": "requests", "window": "day", "amount": "1000"}]
        key = await replicas.first.new_key(limits=limits)
        assert (await replicas.first.generate(key, seed=1, image_size="square")).status_code == 200
        for gateway in replicas.gateways:
            assert (await gateway.generate(key, seed=1, image_size="square")).status_code == 200
        proxy.mood = mood
        hits = await all_at_once(replicas, key, [1] * 100)
        assert statuses(hits) == {200: 100}
        answers = await all_at_once(replicas, key, list(range(2, 60)))
        assert statuses(answers) == {200: 19, 429: 39}
        await settled(replicas)
        assert billed(replicas.fake) == await books(replicas.first) == 20 * PRICE
        proxy.mood = "pass"
        usage = await replicas.first.usage()
        assert usage["requests"] == 1 + 2 + 100 + 58
        # what is counted against the day is what the usage log says, once Redis is back
        for gateway in replicas.gateways:
            pipe = gateway.resources.admission._rates._pipe  # type: ignore[attr-defined]

            async def is_up(pipe: Any = pipe) -> bool:
                return bool(pipe.up)

            await until(is_up)
        left = (await replicas.first.generate(key, seed=1, image_size="square")).headers["ratelimit"]
        assert f";r={1000 - (161 - 39) - 1};" in left


async def test_with_redis_a_black_hole_hits_wait_once_and_never_again(proxied: tuple[Engines, Proxy]) -> None:
    """F11: the calls of the first moment wait `redis_timeout_s`; from then on each replica admits its part alone."""
    engines, proxy = proxied
    async with fleet(engines, FakeProvider()) as replicas:
        key = await replicas.first.new_key(limits=[{"metric": "requests", "window": "hour", "amount": "300"}])
        for gateway in (*replicas.gateways, *replicas.gateways):
            assert (await gateway.generate(key, seed=1)).status_code == 200
        rates = replicas.first.resources.admission._rates

        async def all_known() -> bool:
            return bool(rates._local.share == 3)  # type: ignore[attr-defined]

        await until(all_known)
        proxy.mood = "swallow"
        assert (await replicas.first.generate(key, seed=1)).status_code == 200
        asked = proxy.asked
        answers = await asyncio.gather(*(replicas.first.generate(key, seed=1) for _ in range(120)))
        assert statuses(answers) == {200: 99, 429: 21}
        assert proxy.asked - asked < 20  # no call asks: what still comes is attempts at a new connection


async def lose_postgres(engines: Engines, during: Callable[[], Awaitable[None]]) -> None:
    await asyncio.to_thread(engines.postgres.stop)
    try:
        await during()
    finally:
        await asyncio.to_thread(engines.postgres.start)


async def test_with_postgresql_gone_hits_go_on_and_their_rows_come_later(engines: Engines) -> None:
    """F12: hits that memory or Redis hold, none is bought, no row is lost."""
    async with fleet(engines, FakeProvider()) as replicas:
        key = await replicas.first.new_key()
        for seed in range(1, 11):
            assert (await replicas.first.generate(key, seed=seed)).status_code == 200

        for gateway in replicas.gateways:  # all know the key then, and the others of the pictures only the first
            assert (await gateway.generate(key, seed=1)).status_code == 200
        known = len(replicas.gateways)
        bought = len(replicas.fake.bill)
        visitor = await signed_in(replicas.first)

        async def meanwhile() -> None:
            hits = await asyncio.gather(*(replicas.next.generate(key, seed=1 + n % 10) for n in range(300)))
            assert statuses(hits) == {200: 300}
            assert {hit.headers["cache-status"] for hit in hits} == {"darkroom; hit"}
            refused = await asyncio.gather(*(replicas.next.generate(key, seed=1000 + n) for n in range(30)))
            assert {answer.json()["error"]["code"] for answer in refused} == {"ledger_unavailable"}
            page = await visitor.get("live/overview")
            for gateway in replicas.gateways:  # a load balancer sends it calls as before
                ready = await gateway.get("/readyz")
                assert (ready.status_code, ready.json()) == (200, {"status": "degraded"})
            assert (page.status_code, "database can't be used right now" in words_of(page.text)) == (503, True)
            tries = [await Visitor(replicas.first).sign_in(ADMIN_KEY) for _ in range(10)]
            assert statuses(tries) == {503: 10}

        await lose_postgres(engines, meanwhile)
        assert len(replicas.fake.bill) == bought == 10

        async def is_back() -> bool:
            return all([(await gateway.get("/readyz")).json() == {"status": "ok"} for gateway in replicas.gateways])

        await until(is_back)
        await signed_in(replicas.first)  # what failed by the outage was no guess
        await settled(replicas)

        async def all_rows() -> bool:
            return bool((await replicas.first.usage())["requests"] == 10 + known + 300 + 30)

        await until(all_rows)


@pytest.mark.parametrize("redis_is_there", [True, False])
async def test_a_revoked_key_is_refused_everywhere_within_five_seconds(
    proxied: tuple[Engines, Proxy], redis_is_there: bool
) -> None:
    """F26: under load, by notice; and by the poll alone."""
    engines, proxy = proxied
    async with fleet(engines, FakeProvider()) as replicas:
        key = await replicas.first.new_key()
        key_id = (await replicas.first.admin("GET", "/keys"))["data"][0]["id"]
        assert (await replicas.first.generate(key, seed=1)).status_code == 200
        if not redis_is_there:
            proxy.mood = "swallow"
        revoked_s = float("inf")
        late: list[float] = []
        stop = asyncio.Event()

        async def caller(gateway: Gateway) -> None:
            while not stop.is_set():
                begun_s = time.monotonic()
                answer = await gateway.generate(key, seed=1)
                if answer.status_code == 200:
                    late.append(begun_s)
                else:
                    assert answer.json()["error"]["code"] == "key_disabled"
                    return

        callers = asyncio.gather(*(caller(gateway) for gateway in replicas.gateways for _ in range(3)))
        await replicas.first.admin("DELETE", f"/keys/{key_id}")
        revoked_s = time.monotonic()
        async with asyncio.timeout(20):
            await callers
        assert max(late, default=0.0) - revoked_s < 5


async def test_what_is_purged_at_one_replica_is_gone_at_all(engines: Engines) -> None:
    async with fleet(engines, FakeProvider()) as replicas:
        key = await replicas.first.new_key()
        for _ in range(4):
            answer = await replicas.next.generate(key, seed=1)
        assert answer.headers["cache-status"] == "darkroom; hit"
        await replicas.first.admin("POST", "/cache/purge", {"model": "flux-pro"})

        async def gone() -> bool:
            told = [await gateway.generate(key, seed=1, headers={"Cache-Control": "only-if-cached"})
                    for gateway in replicas.gateways]  # fmt: skip
            return all(answer.status_code == 504 for answer in told)

        await until(gone)
        assert (await replicas.next.generate(key, seed=1)).headers["cache-status"] == "darkroom; fwd=miss; stored"
        assert len(replicas.fake.bill) == 2
