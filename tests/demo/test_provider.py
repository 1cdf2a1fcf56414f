from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.demo.provider import FakeProvider, running

AUTHORIZED = {"Authorization": "Bearer provider-secret"}
BODY = {"model": "flux-pro", "prompt": "A fox", "seed": 5, "image_size": {"width": 256, "height": 320}}


@asynccontextmanager
async def calling(fake: FakeProvider) -> AsyncIterator[httpx.AsyncClient]:
    async with running(fake) as base_url, httpx.AsyncClient(base_url=base_url, headers=AUTHORIZED) as client:
        yield client


async def post(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/v1/images/generations", json=BODY | changes)


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/generations/"])
async def test_answers_both_routes_and_keeps_a_bill(path: str) -> None:
    fake = FakeProvider()
    async with calling(fake) as client:
        answer = await client.post(path, json=BODY | {"num_images": 2}, headers={"X-Client-Request-Id": "gen_1"})
        kept = (await client.get("/_bill")).json()
    said = answer.json()
    assert said["images"] == said["data"]
    assert (said["seed"], said["meta"]["usage"]["credits_used"]) == (5, 260_000)
    assert answer.headers["x-client-request-id"] == "gen_1"
    assert kept == {"bill": fake.bill, "calls": 1, "calls_by_key": {"provider-secret": 1}}
    assert {name: fake.bill[0][name] for name in ("client_request_id", "images", "cost_usd")} == {
        "client_request_id": "gen_1",
        "images": 2,
        "cost_usd": "0.130",
    }


async def test_serves_pictures_of_the_right_size_until_they_are_killed() -> None:
    fake = FakeProvider()
    async with calling(fake) as client:
        first, again = [(await post(client)).json()["images"][0]["url"] for _ in range(2)]
        pictures = [(await client.get(url)).content for url in (first, again)]
        fake.kill_images()
        assert (await client.get(first)).status_code == 404
    assert pictures[0] == pictures[1]
    with Image.open(BytesIO(pictures[0])) as picture:
        assert (picture.format, picture.size) == ("JPEG", (256, 320))


@pytest.mark.parametrize(
    "changes",
    [
        *({"model": "dall-e"}, {"model": None}, {"prompt": None}, {"prompt": "x" * 4001}, {"prompt": 5}),
        *(
            {"num_images": 0},
            {"num_images": 5},
            {"num_images": 1.5},
            {"num_images": True},
            {"num_images": "1"},
        ),
        *({"seed": 0}, {"seed": -1}, {"seed": 1.5}, {"seed": None}, {"seed": "5"}),
        *(
            {"image_size": "huge"},
            {"image_size": None},
            {"image_size": [1, 2]},
            {"image_size": {"width": 250}},
        ),
        *({"image_size": {"height": 1472}}, {"image_size": {"width": 257}}, {"image_size": {"width": "512"}}),
        *(
            {"num_inference_steps": 51},
            {"num_inference_steps": 0},
            {"guidance_scale": 0.5},
            {"guidance_scale": 21},
        ),
        *(
            {"safety_tolerance": 2},
            {"safety_tolerance": "7"},
            {"output_format": "webp"},
            {"output_format": None},
        ),
    ],
    ids=str,
)
async def test_refuses_what_the_contract_refuses_uncharged(changes: dict[str, Any]) -> None:
    fake = FakeProvider()
    async with calling(fake) as client:
        answer = await post(client, **changes)
    [issue] = answer.json()["error"]["data"]
    assert (answer.status_code, answer.json()["statusCode"]) == (400, 400)
    assert issue["path"][0] == next(iter(changes))
    assert (fake.bill, fake.calls) == ([], 1)


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"image_size": {}},
            {"image_size": "square_hd"},
            {"image_size": {"width": 1440}},
            {"seed": 2**63 - 1},
        ),
        *({"guidance_scale": 3.5}, {"safety_tolerance": "6"}, {"output_format": "png"}, {"sync_mode": True}),
        *({"prompt": ""}, {"prompt": "x" * 4000}, {"num_images": 4}, {"num_inference_steps": 50}),
    ],
    ids=str,
)
async def test_takes_what_the_contract_takes(changes: dict[str, Any]) -> None:
    async with calling(FakeProvider()) as client:
        assert (await post(client, **changes)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Authorization": "Bearer wrong"}, b"{}", 401),
        ({"Authorization": "provider-secret"}, b"{}", 401),
        ({"Content-Type": "text/plain"}, b"{}", 400),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"[]", 400),
    ],
)
async def test_refuses_calls_that_are_badly_made(headers: dict[str, str], content: bytes, status: int) -> None:
    async with calling(FakeProvider()) as client:
        answer = await client.post("/v1/images/generations", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["message"] != "") == (status, True)


async def test_a_malformed_request_id_is_dropped_silently() -> None:
    fake = FakeProvider()
    async with calling(fake) as client:
        answer = await client.post("/v1/images/generations", json=BODY, headers={"X-Client-Request-Id": "a b"})
    assert "x-client-request-id" not in answer.headers
    assert fake.bill[0]["client_request_id"] is None


async def test_a_script_is_used_up_call_by_call() -> None:
    fake = FakeProvider()
    async with calling(fake) as client:
        script = [{"refuse_status": 503}, {"images": 1}]
        await client.post("/_control", json={"price_usd": "0.04", "script": script})
        answers = [await post(client, num_images=2) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert [row["cost_usd"] for row in fake.bill] == ["0.04", "0.08"]


async def test_a_lost_answer_is_on_the_bill() -> None:
    fake = FakeProvider(answer_fault="reset_after_charge")
    async with calling(fake) as client:
        with pytest.raises(httpx.TransportError):
            await post(client)
    assert [row["cost_usd"] for row in fake.bill] == ["0.065"]


async def test_it_closes_while_calls_are_waiting() -> None:
    fake = FakeProvider(answer_fault="never")
    async with calling(fake) as client:
        waiting = asyncio.create_task(post(client))
        await fake.wait_for_calls(1)
        waiting.cancel()
    assert len(fake.bill) == 1


async def test_runs_as_a_process() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.demo.provider", "--port", "0"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    ready = (await process.stdout.readline()).decode().split()
    assert ready[0] == "ready"
    async with httpx.AsyncClient(base_url=ready[1], headers=AUTHORIZED) as client:
        assert (await post(client)).status_code == 200
    process.terminate()
    await process.communicate()
