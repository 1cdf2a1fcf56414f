"""A caller that asks again pays once: after a closed connection, by an Idempotency-Key, by the SDKs' own retries."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.provider import FakeProvider, running
from tests.e2e.test_crashes import gateway_process
from tests.support.gateway import Gateway, gateway_and_provider, running_gateway, settings_for
from tests.support.ports import free_port
from tests.support.raw_client import RawClients, post
from tests.support.waiting import until

RETRY = {"x-stainless-retry-count": "1"}


def keyed(key: str = "order-7") -> dict[str, str]:
    return {"Idempotency-Key": f'"{key}"'}


def picture(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"][0]["url"])


async def finished(gateway: Gateway, place: str, key: str) -> Any:
    """The receipt, once the purchase is over."""

    async def look() -> Any:
        receipt = (await gateway.get(place, key)).json()
        return receipt if receipt["finished_at"] else None

    return await until(look)


async def leave(gateway: Gateway, fake: FakeProvider, key: str, **fields: Any) -> asyncio.Event:
    """A call whose client goes away while the picture is being made, which it is until the event is set."""
    gate = fake.gate = asyncio.Event()
    call = asyncio.create_task(gateway.generate(key, **fields))
    await fake.wait_for_calls(1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    return gate


@pytest.mark.parametrize("seed", [7, None], ids=["seeded", "unseeded"])
@pytest.mark.parametrize("when", ["under way", "over"])
async def test_an_equal_call_after_a_closed_connection_gets_that_picture_for_nothing(
    tmp_path: Path, seed: int | None, when: str
) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        gate = await leave(gateway, fake, key, seed=seed)
        if when == "over":
            gate.set()
            await until(lambda: gateway.generations(status="succeeded"))
        again = asyncio.create_task(gateway.generate(key, seed=seed))
        gate.set()
        answer = await again
        assert picture(answer)
        assert answer.headers["darkroom-cost-usd"] == "0"
        assert len(fake.bill) == 1


async def test_a_client_that_had_sent_more_behind_its_call_is_heard_leaving_all_the_same(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        gate = fake.gate = asyncio.Event()
        async with RawClients(gateway.base_url) as connect:
            body = json.dumps({"model": "flux-pro", "prompt": "A lighthouse"}).encode()
            client = await connect(post(key, body) + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            await fake.wait_for_calls(1)
            await client.close()
        assert (await gateway.get("/livez")).status_code == 200
        gate.set()
        await until(lambda: gateway.generations(status="succeeded"))
        again = await gateway.generate(key, prompt="A lighthouse")
        assert picture(again)
        assert (again.headers["darkroom-cost-usd"], len(fake.bill)) == ("0", 1)


async def test_a_picture_once_delivered_is_never_replayed(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        (await leave(gateway, fake, key)).set()
        pictures = [picture(await gateway.generate(key, headers=RETRY)) for _ in range(3)]
        assert len(set(pictures)) == 3
        assert len(fake.bill) == 3


async def test_a_picture_that_was_purged_is_not_come_back_to(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        (await leave(gateway, fake, key, seed=7)).set()
        await until(lambda: gateway.generations(status="succeeded"))
        await gateway.admin("POST", "/cache/purge", {"model": "flux-pro"})
        again = await gateway.generate(key, seed=7)
        assert (await gateway.get(picture(again))).status_code == 200
        assert len(fake.bill) == 2


@pytest.mark.parametrize("difference", ["key", "user", "seed", "prompt", "new idempotency key"])
async def test_a_call_that_differs_buys_its_own(tmp_path: Path, difference: str) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        user_id = await gateway.new_user()
        key, other = [await gateway.new_key(user_id=user_id) for _ in range(2)]
        (await leave(gateway, fake, key, user="end user")).set()
        fields: dict[str, Any] = {"user": "end user"}
        changes: dict[str, dict[str, Any]] = {
            "user": {"user": "another"},
            "seed": {"seed": 3},
            "prompt": {"prompt": "A harbour"},
        }
        fields |= changes.get(difference, {})
        headers = keyed() if difference == "new idempotency key" else None
        answer = await gateway.generate(other if difference == "key" else key, headers=headers, **fields)
        assert answer.headers["darkroom-cost-usd"] == "0.065"
        assert len(fake.bill) == 2


async def test_of_two_that_left_each_repeat_gets_another_picture(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        fake.gate = asyncio.Event()
        calls = [asyncio.create_task(gateway.generate(key)) for _ in range(2)]
        await fake.wait_for_calls(2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        fake.gate.set()
        repeats = await asyncio.gather(*(gateway.generate(key) for _ in range(2)))
        assert len({picture(answer) for answer in repeats}) == 2
        assert len(fake.bill) == 2
        rows = [row["outcome"] for row in await gateway.requests()]
        assert sorted(rows) == ["bought", "bought", "repeated", "repeated"]


@pytest.mark.parametrize("seed", [7, None], ids=["seeded", "unseeded"])
async def test_a_retry_of_a_lost_answer_gets_the_same_504_and_a_new_call_is_free(
    tmp_path: Path, seed: int | None
) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        fake.script.append({"answer_fault": "reset_after_charge"})
        lost = await gateway.generate(key, seed=seed)
        retry = await gateway.generate(key, seed=seed, headers=RETRY)
        for answer in (lost, retry):
            assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
            assert answer.json()["error"]["data"]["charged"] == "unknown"
        assert len(fake.bill) == 1
        assert picture(await gateway.generate(key, seed=seed))
        assert len(fake.bill) == 2


# -- Idempotency-Key ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ['"order 7"', "order-7"])
@pytest.mark.parametrize("seed", [7, None], ids=["seeded", "unseeded"])
async def test_the_same_key_and_body_replay_the_answer(tmp_path: Path, form: str, seed: int | None) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        sent = {"Idempotency-Key": form}
        answers = [await gateway.generate(key, seed=seed, headers=sent) for _ in range(3)]
        assert len({picture(answer) for answer in answers}) == 1
        assert [answer.headers["darkroom-cost-usd"] for answer in answers] == ["0.065", "0", "0"]
        assert len(fake.bill) == 1


@pytest.mark.parametrize("other", [True, False], ids=["of a hit", "of a purchase"])
async def test_a_replay_whose_picture_was_purged_says_so_and_buys_nothing(tmp_path: Path, other: bool) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        if other:
            await gateway.generate(await gateway.new_key(), seed=7)
        picture(await gateway.generate(key, seed=7, headers=keyed()))
        await gateway.admin("POST", "/cache/purge", {"model": "flux-pro"})
        for _ in range(2):
            gone = await gateway.generate(key, seed=7, headers=keyed())
            error = gone.json()["error"]
            assert (gone.status_code, error["code"], error["data"]["charged"]) == (410, "image_removed", "no")
        assert len(fake.bill) == 1
        assert picture(await gateway.generate(key, seed=7, headers=keyed("another")))
        assert len(fake.bill) == 2


async def test_the_same_key_with_another_body_is_refused(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        await gateway.generate(key, headers=keyed())
        for changed in ({"prompt": "A harbour"}, {"response_format": "b64_json"}, {"seed": 1}):
            refused = await gateway.generate(key, headers=keyed(), **changed)
            assert (refused.status_code, refused.headers["x-should-retry"]) == (422, "false")
            assert refused.json()["error"]["code"] == "idempotency_mismatch"
        assert len(fake.bill) == 1


async def test_a_hit_and_a_join_use_the_key_too(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key, other = await gateway.new_key(), await gateway.new_key()
        await gateway.generate(other, seed=7)
        hits = [await gateway.generate(key, seed=7, headers=keyed()) for _ in range(2)]
        assert hits[0].headers["cache-status"] == "darkroom; hit"
        assert len({picture(answer) for answer in hits}) == 1
        assert (await gateway.generate(key, seed=8, headers=keyed())).status_code == 422
        assert len(fake.bill) == 1


async def test_concurrent_repeats_wait_for_the_first(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(delay_s=0.3)) as (gateway, fake):
        key = await gateway.new_key()
        answers = await asyncio.gather(*(gateway.generate(key, headers=keyed()) for _ in range(20)))
        assert len({picture(answer) for answer in answers}) == 1
        assert len(fake.bill) == 1


async def test_a_refusal_by_the_provider_is_replayed_and_one_that_waiting_cures_is_not(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        fake.script.append({"refuse_status": 400, "message": "Not this prompt"})
        refusals = [await gateway.generate(key, headers=keyed()) for _ in range(2)]
        assert [answer.status_code for answer in refusals] == [400, 400]
        assert {answer.json()["error"]["message"] for answer in refusals} == {"Not this prompt"}
        assert fake.calls == 1
        fake.script.extend([{"refuse_status": 503}] * 2)
        assert (await gateway.generate(key, headers=keyed("second"))).status_code == 503
        assert picture(await gateway.generate(key, headers=keyed("second")))


async def test_our_own_refusal_frees_the_key(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        user_id = await gateway.new_user(limits=[{"metric": "images", "window": "day", "amount": "0"}])
        key = await gateway.new_key(user_id=user_id)
        assert (await gateway.generate(key, headers=keyed())).status_code == 429
        await gateway.admin("PUT", f"/users/{user_id}/limits", [])
        assert picture(await gateway.generate(key, headers=keyed()))


async def test_an_unknown_outcome_replays_its_504_until_an_administrator_settles_it(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        fake.script.append({"answer_fault": "reset_after_charge"})
        for _ in range(2):
            assert (await gateway.generate(key, headers=keyed())).status_code == 504
        [row] = await gateway.generations(status="unknown")
        await gateway.admin("POST", f"/generations/{row['id']}/settle", {"cost_usd": "0", "reason": "they refunded it"})
        assert picture(await gateway.generate(key, headers=keyed()))
        assert len(fake.bill) == 2


async def test_keys_of_other_callers_never_meet(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        keys = [await gateway.new_key() for _ in range(2)]
        answers = [await gateway.generate(key, headers=keyed()) for key in keys]
        assert len({picture(answer) for answer in answers}) == 2


@pytest.mark.parametrize("form", ["", '""', "x" * 256, "caf\xe9", '"a', "a\tb"])
async def test_a_key_that_is_none_is_refused_before_anything_is_bought(tmp_path: Path, form: str) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        sent = {"Idempotency-Key": form.encode("latin-1")}
        refused = await gateway.generate(await gateway.new_key(), headers=sent)  # type: ignore[arg-type]
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "Idempotency-Key"
        assert fake.calls == 0


async def test_a_replay_survives_a_restart(tmp_path: Path) -> None:
    fake = FakeProvider()
    async with running(fake) as provider_url:
        settings = settings_for(tmp_path, provider_url, port=free_port())
        async with running_gateway(settings) as gateway:
            key = await gateway.new_key()
            first = await gateway.generate(key, headers=keyed())
        async with running_gateway(settings) as gateway:
            again = await gateway.generate(key, headers=keyed())
    assert picture(again) == picture(first)
    assert len(fake.bill) == 1


# -- long waits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [7, None], ids=["seeded", "unseeded"])
async def test_a_wait_that_is_over_says_come_again_and_the_repeat_joins_that_purchase(
    tmp_path: Path, seed: int | None
) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.gate = asyncio.Event()
        key = await gateway.new_key()
        for _ in range(3):
            waiting = await gateway.generate(key, seed=seed, headers={"Prefer": "wait=0"})
            assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
            error = waiting.json()["error"]
            assert (error["code"], error["data"]["charged"]) == ("still_generating", "unknown")
            assert "x-should-retry" not in waiting.headers
        fake.gate.set()
        assert picture(await gateway.generate(key, seed=seed))
        assert len(fake.bill) == 1


async def test_of_those_who_wait_for_one_purchase_its_buyer_alone_may_be_charged(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.gate = asyncio.Event()
        buyer, joiner = await gateway.new_key(), await gateway.new_key()
        said = []
        for key in (buyer, joiner, buyer, joiner):
            waiting = await gateway.generate(key, seed=7, headers={"Prefer": "wait=0", **keyed()})
            said.append(waiting.json()["error"]["data"]["charged"])
        assert said == ["unknown", "no", "unknown", "no"]
        fake.gate.set()
        costs = [(await gateway.generate(key, seed=7)).headers["darkroom-cost-usd"] for key in (buyer, joiner)]
        assert costs == ["0", "0"]
        assert len(fake.bill) == 1


async def test_the_operators_longest_wait_is_kept(tmp_path: Path) -> None:
    fake = FakeProvider()
    port = free_port()
    server = {"port": port, "drain_s": 20, "max_wait_s": 0.2}
    async with gateway_and_provider(tmp_path, fake, server=server) as (gateway, _):
        fake.gate = asyncio.Event()
        key = await gateway.new_key()
        waiting = await gateway.generate(key, headers={"Prefer": "wait=60"})
        assert waiting.json()["error"]["code"] == "still_generating"
        fake.gate.set()


async def test_a_caller_that_does_not_wait_finds_its_picture_at_the_address_it_was_given(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.gate = asyncio.Event()
        key, other = await gateway.new_key(), await gateway.new_key()
        accepted = [await gateway.generate(k, seed=7, headers={"Prefer": "respond-async"}) for k in (key, other)]
        for answer, asked in zip(accepted, (key, other), strict=True):
            assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async")
            state = await gateway.get(answer.headers["location"], asked)
            assert (state.json()["status"], state.headers["retry-after"]) == ("sent", "1")
        fake.gate.set()
        place = accepted[0].headers["location"]
        receipts = [await finished(gateway, place, asked) for asked in (key, other)]
        assert {receipt["images"][0]["url"] for receipt in receipts} != {None}
        assert [receipt["cost_usd"] for receipt in receipts] == ["0.065", "0"]
        assert (await gateway.get(place, await gateway.new_key())).status_code == 404
        assert len(fake.bill) == 1


async def test_calls_that_do_not_wait_each_get_their_own(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, _):
        key = await gateway.new_key()
        asked = [await gateway.generate(key, headers={"Prefer": "respond-async"}) for _ in range(3)]
        assert len({answer.headers["location"] for answer in asked}) == 3
        hit = await gateway.generate(key, seed=1)
        assert (await gateway.generate(key, seed=1, headers={"Prefer": "respond-async"})).text == hit.text


# -- a process that dies -----------------------------------------------------------------------------------------------


async def test_after_a_crash_the_caller_gets_the_picture_it_had_paid_for(tmp_path: Path) -> None:
    """Unseeded: nothing but the caller's own repeat can find it."""
    fake = FakeProvider(image_fault="missing")
    async with gateway_process(tmp_path, fake) as (process, gateway):
        key = await gateway.new_key()
        assert (await gateway.generate(key)).status_code == 502
        process.kill()
        fake.behaviour.image_fault = None
        fake.mend_images()
        await process.start()
        answer = await gateway.generate(key)
        assert picture(answer)
        assert answer.headers["darkroom-cost-usd"] == "0"
        assert len(fake.bill) == 1
