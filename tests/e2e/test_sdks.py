"""The official OpenAI SDKs, unchanged but for base URL and key: Python here, Node under the mark `browser`."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import sqlalchemy as sa

from gateway.demo.provider import FakeProvider
from gateway.storage.tables import generations
from tests.support.gateway import Gateway, gateway_and_provider
from tests.support.waiting import until

NODE = Path(__file__).parent / "node"
Call = Callable[[Gateway, str, dict[str, Any]], Awaitable[dict[str, Any]]]


async def by_python(gateway: Gateway, key: str, params: dict[str, Any]) -> dict[str, Any]:
    extra = {name: params.pop(name) for name in ("seed", "num_inference_steps") if name in params}
    async with openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=key) as client:
        try:
            answer = await client.images.generate(**params, extra_body=extra)
        except openai.APIStatusError as error:
            return {
                "status": error.status_code,
                "message": error.message,
                "code": error.code,
                "param": error.param,
                "type": error.type,
            }
    data = [
        {"url": item.url, "bytes": len(base64.b64decode(item.b64_json)) if item.b64_json else None}
        for item in answer.data or []
    ]
    return {"created": answer.created, "data": data}


async def by_node(gateway: Gateway, key: str, params: dict[str, Any]) -> dict[str, Any]:
    node = shutil.which("node")
    assert node, "Node is not there: run `make check`, which installs it"
    args = (node, "calls.mjs", f"{gateway.base_url}/v1", key, json.dumps(params))
    process = await asyncio.create_subprocess_exec(*args, cwd=NODE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    answer: dict[str, Any] = json.loads(out)
    return answer


SDKS = pytest.mark.parametrize(
    "call", [pytest.param(by_python, id="python"), pytest.param(by_node, id="node", marks=pytest.mark.browser)]
)


@SDKS
async def test_an_sdk_gets_a_picture_by_url_by_b64_and_two_at_once(tmp_path: Path, call: Call) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        params = {"model": "flux-pro", "prompt": "A lighthouse", "size": "512x512", "seed": 7}
        by_url = await call(gateway, key, dict(params))
        [item] = by_url["data"]
        picture = await gateway.get(item["url"])
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
        by_b64 = await call(gateway, key, {**params, "response_format": "b64_json"})
        assert by_b64["data"][0]["bytes"] == len(picture.content)
        assert fake.calls == 1
        two = await call(gateway, key, {**params, "n": 2})
        assert len({item["url"] for item in two["data"]}) == 2
        assert [row["images"] for row in fake.bill] == [1, 2]


@SDKS
async def test_an_sdk_shows_what_was_wrong_and_does_not_ask_again(tmp_path: Path, call: Call) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        error = await call(gateway, key, {"model": "flux-pro", "prompt": "x", "n": 9})
        assert (error["status"], error["code"], error["param"]) == (400, "invalid_request", "n")
        assert "n: Must be at most 4 (received number 9)" in error["message"]
        assert (await gateway.usage())["requests"] == 1
        assert fake.calls == 0


async def test_an_sdk_that_asks_for_a_stream_is_told_to_leave_it_out_before_anything_is_bought(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        error = await by_python(gateway, key, {"model": "flux-pro", "prompt": "x", "stream": True})
        assert (error["status"], error["param"]) == (400, "stream")
        assert "Leave it out" in error["message"]
        assert fake.calls == 0
        assert (await by_python(gateway, key, {"model": "flux-pro", "prompt": "x", "stream": False}))["data"]


@SDKS
async def test_a_quota_is_not_hammered_by_an_sdk(tmp_path: Path, call: Call) -> None:
    """SDKs repeat a 429 twice by themselves; a reset far away says x-should-retry: false."""
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key(limits=[{"metric": "requests", "window": "hour", "amount": 1}])
        params = {"model": "flux-pro", "prompt": "x", "seed": 1}
        assert "data" in await call(gateway, key, dict(params))
        error = await call(gateway, key, dict(params))
        assert (error["status"], error["code"]) == (429, "rate_limit_exceeded")
        usage = await gateway.usage()
        assert usage["requests"] == 2
        budget = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "month", "amount": "0.01"}])
        error = await call(gateway, budget, dict(params, seed=2))
        assert (error["status"], error["code"], error["type"]) == (429, "quota_exceeded", "insufficient_quota")
        assert (await gateway.usage())["requests"] == 3
        assert len(fake.bill) == 1


@SDKS
async def test_a_lost_answer_is_not_bought_again_by_an_sdk(tmp_path: Path, call: Call) -> None:
    async with gateway_and_provider(tmp_path, FakeProvider(answer_fault="reset_after_charge")) as (gateway, fake):
        key = await gateway.new_key()
        error = await call(gateway, key, {"model": "flux-pro", "prompt": "x", "seed": 1})
        assert (error["status"], error["code"]) == (504, "provider_timeout")
        assert len(fake.bill) == fake.calls == 1


@pytest.mark.parametrize("seed", [7, None], ids=["seeded", "unseeded"])
async def test_an_sdk_that_gives_up_and_asks_again_by_itself_pays_once(tmp_path: Path, seed: int | None) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        fake.gate = asyncio.Event()
        key = await gateway.new_key()
        client = openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=key, timeout=1, max_retries=8)
        extra = {} if seed is None else {"seed": seed}
        async with client:
            call = asyncio.create_task(
                client.images.generate(model="flux-pro", prompt="A lighthouse", extra_body=extra)
            )
            await until(lambda: abandoned(gateway))
            fake.gate.set()
            answer = await call
        assert answer.data
        assert answer.data[0].url
        assert len(fake.bill) == 1


async def abandoned(gateway: Gateway) -> bool:
    """Whether the gateway has seen a caller leave."""
    left = sa.select(generations.c.id).where(generations.c.abandoned_ms.is_not(None))
    return await gateway.resources.database.read(lambda conn: conn.execute(left).first() is not None)
