"""What breaks in the middle of a purchase: the process, the answer, the image store, the addresses."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from gateway.demo.provider import FakeProvider
from gateway.services.answers import AnswerCache
from gateway.services.publication import Publisher
from gateway.services.recovery import Recovery
from gateway.storage import tables
from gateway.storage.images import LocalImageStore
from gateway.storage.response_cache import MemoryAnswers
from gateway.storage.shared_answers import NothingShared
from tests.e2e.test_crashes import gateway_process
from tests.e2e.test_money import billed, books
from tests.support.gateway import Gateway, gateway_and_provider
from tests.support.raw_server import raw_server
from tests.support.waiting import until

RETRY = {"x-stainless-retry-count": "1"}


# -- the process that buys is killed, others waiting -------------------------------------------------------------------


async def test_those_who_waited_for_a_killed_buyer_are_answered_after_the_restart(tmp_path: Path) -> None:
    fake = FakeProvider()
    fake.gate = asyncio.Event()
    async with gateway_process(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key()
        waiting = [asyncio.create_task(gateway.generate(key, seed=7)) for _ in range(20)]
        await fake.wait_for_calls(1)
        process.kill()
        await asyncio.gather(*waiting, return_exceptions=True)
        fake.gate.set()
        await process.start()
        answers = await asyncio.gather(*(gateway.generate(key, seed=7) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["data"][0]["url"] for answer in answers}) == 1
        assert len(fake.bill) <= 2
        found = await gateway.admin("POST", "/reconcile", {})
        assert (found["drift"], found["open_count"]) == (False, 0)
        assert await books(gateway) == billed(fake)


# -- the provider never answers, or trickles ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["never", "drip"])
@pytest.mark.parametrize("seed", [7, None], ids=["seeded", "unseeded"])
async def test_a_provider_that_does_not_come_to_an_end_is_given_up_at_the_deadline(
    tmp_path: Path, fault: Any, seed: int | None
) -> None:
    one_at_a_time = [{"value": "provider-secret", "max_concurrency": 1}]
    async with gateway_and_provider(tmp_path, provider_timeout_s=0.5, provider_keys=one_at_a_time) as (gateway, fake):
        key = await gateway.new_key()
        fake.script.append({"answer_fault": fault})
        lost = await gateway.generate(key, seed=seed)
        retry = await gateway.generate(key, seed=seed, headers=RETRY)
        for answer in (lost, retry):
            assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
            assert answer.json()["error"]["data"]["charged"] == "unknown"
        assert fake.calls == 1
        assert (await gateway.generate(key, seed=seed)).status_code == 200  # free again, and so is the key's one place
        metrics = (await gateway.get("/metrics")).text
        assert re.search(r"^darkroom_open_purchases 0\.0$", metrics, re.MULTILINE)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("purchase")]


# -- a process that froze past its lease, and woke ---------------------------------------------------------------------


async def another_process(gateway: Gateway, folder: Path) -> Recovery:
    """One that shares the database, and finds that the lease of the first has run out."""
    database = gateway.resources.database
    expired = sa.update(tables.generations).values(lease_until_ms=0)
    await database.write(lambda conn: conn.execute(expired))
    publisher = Publisher(database, LocalImageStore(folder / "images"), ttl_ms=None)
    answers = AnswerCache(database, MemoryAnswers(10_000), NothingShared())
    return Recovery(database, publisher, answers, {}, process_id="another", active=())


async def test_a_late_answer_settles_once_and_its_picture_is_kept(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.gate = asyncio.Event()
        key = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "month", "amount": "10"}])
        late = asyncio.create_task(gateway.generate(key))
        await fake.wait_for_calls(1)
        assert await (await another_process(gateway, tmp_path)).recover() == 1
        assert [row["status"] for row in await gateway.generations()] == ["unknown"]
        fake.gate.set()
        answer = await late
        assert answer.status_code == 200
        [row] = await gateway.generations()
        assert (row["status"], row["settled_by"], row["cost_usd"]) == ("succeeded", "answer", "0.065")
        assert await books(gateway) == billed(fake) == Decimal("0.065")
        assert (await gateway.get(answer.json()["data"][0]["url"])).status_code == 200
        assert (await gateway.get("/v1/usage", key)).json()["limits"][0]["left"] == "9.935"


async def test_a_late_answer_after_another_bought_the_same_is_booked_beside_it(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.gate = asyncio.Event()
        keys = [await gateway.new_key() for _ in range(2)]
        late = asyncio.create_task(gateway.generate(keys[0], headers={"Cache-Control": "no-store"}, seed=7))
        await fake.wait_for_calls(1)
        await (await another_process(gateway, tmp_path)).recover()
        again = asyncio.create_task(gateway.generate(keys[1], seed=7))
        await fake.wait_for_calls(2)
        fake.gate.set()
        answers = await asyncio.gather(late, again)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert len(fake.bill) == 2
        assert await books(gateway) == billed(fake)
        assert [row["status"] for row in await gateway.generations()] == ["succeeded", "succeeded"]


# -- the image store is gone after the purchase ------------------------------------------------------------------------


async def test_with_the_image_store_gone_a_paid_picture_is_delivered_and_kept(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path / "data") as (gateway, fake):
        fake.gate = asyncio.Event()
        key = await gateway.new_key()
        under_way = asyncio.create_task(gateway.generate(key, seed=7))
        await fake.wait_for_calls(1)
        store = tmp_path / "data" / "images"
        store.rename(tmp_path / "aside")
        store.write_text("no folder")
        fake.gate.set()
        answer = await under_way
        assert answer.status_code == 200
        url = answer.json()["data"][0]["url"]
        assert (await gateway.get(url)).status_code == 200
        assert (await gateway.generate(key, seed=7)).headers["cache-status"] == "darkroom; hit"
        assert (await gateway.generate(key, seed=8)).status_code == 503
        store.unlink()
        (tmp_path / "aside").rename(store)
        assert (await gateway.generate(key, seed=8)).status_code == 200
        assert len(fake.bill) == 2
        await until(lambda: unspooled(tmp_path / "data" / "spool"))
        assert (await gateway.get(url)).status_code == 200


async def unspooled(spool: Path) -> bool:
    return not any(file.is_file() for file in spool.rglob("*"))


# -- addresses that point inward ---------------------------------------------------------------------------------------


@asynccontextmanager
async def canary() -> Any:
    """A server inside that must hear nothing: its port, and how often somebody connected."""
    heard: list[int] = []

    async def hear(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(hear) as port:
        yield port, heard


INWARD = [
    "http://127.0.0.1:{port}/x.jpg",
    "http://localhost:{port}/x.jpg",
    "http://[::1]:{port}/x.jpg",
    "http://[::ffff:127.0.0.1]:{port}/x.jpg",
    "http://2130706433:{port}/x.jpg",
    "http://0x7f.1:{port}/x.jpg",
    "http://0.0.0.0:{port}/x.jpg",
    "http://user@127.0.0.1:{port}/x.jpg",
    "http://169.254.169.254:{port}/x.jpg",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("by", ["address", "redirect"])
@pytest.mark.parametrize("inward", INWARD)
async def test_no_address_of_an_answer_reaches_inside(tmp_path: Path, inward: str, by: str) -> None:
    async with canary() as (port, heard), gateway_and_provider(tmp_path) as (gateway, fake):
        address = inward.format(port=port)
        if by == "address":
            fake.behaviour.image_address = address
        else:
            fake.behaviour.image_fault, fake.behaviour.redirect_to = "redirect_inward", address
        answer = await gateway.generate(await gateway.new_key(), seed=7)
        assert (answer.status_code, answer.json()["error"]["data"]["charged"]) == (502, "yes")
        assert heard == []
        assert await books(gateway) == billed(fake)


# -- a key revoked under load ------------------------------------------------------------------------------------------


async def test_a_revoked_key_is_refused_everywhere_while_others_go_on(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        user_id = await gateway.new_user()
        made = await gateway.admin("POST", "/keys", {"user_id": user_id})
        other = await gateway.new_key(user_id=user_id)
        await gateway.generate(made["key"], seed=1)

        async def ask(key: str, count: int) -> list[httpx.Response]:
            return [await gateway.generate(key, seed=1) for _ in range(count)]

        load = [asyncio.create_task(ask(key, 40)) for key in (made["key"], other) for _ in range(4)]
        await gateway.admin("DELETE", f"/keys/{made['id']}")
        after = await ask(made["key"], 3)
        after.append(await gateway.get("/v1/usage", made["key"]))
        after.append(await gateway.get("/v1/models", made["key"]))
        assert {answer.status_code for answer in after} == {403}
        answers = await asyncio.gather(*load)
        assert {answer.status_code for answer in [each for part in answers[4:] for each in part]} == {200}
