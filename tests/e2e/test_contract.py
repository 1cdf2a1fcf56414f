"""The provider's contract as a superset, with the thin path in front and without it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.demo.provider import FakeProvider
from tests.support.gateway import ADMIN_KEY, PATH, Gateway, gateway_and_provider
from tests.support.ports import free_port


@pytest.fixture(params=[True, False], ids=["thin-path", "routes-alone"])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Gateway, FakeProvider]]:
    async with gateway_and_provider(tmp_path, thin_path=request.param) as pair:
        yield pair


async def test_a_picture_is_bought_then_served_again_with_an_equal_body(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    key = await gateway.new_key()
    bought = await gateway.generate(key, seed=2**63 - 1, headers={"x-client-request-id": "mine:1"})
    body = bought.json()
    assert body["images"] == body["data"]
    assert (body["seed"], body["prompt"], body["has_nsfw_concepts"]) == (2**63 - 1, "A lighthouse at dawn", [False])
    assert body["meta"]["usage"] == {"credits_used": 130000, "usd_spent": 0.065, "tokens_used": 130000}
    assert 1_700_000_000 < body["created"] < 10_000_000_000
    assert bought.headers["cache-status"] == "darkroom; fwd=miss; stored"
    assert bought.headers["x-client-request-id"] == "mine:1"
    assert bought.headers["x-inference-id"].startswith("inf-")
    assert fake.bill[0]["client_request_id"] == bought.headers["darkroom-generation-id"]
    hit = await gateway.post(
        key, {"model": "flux-pro", "prompt": "A lighthouse at dawn", "seed": 2**63 - 1}, path="/v1/images/generations/"
    )
    assert hit.content == bought.content
    assert (hit.headers["cache-status"], hit.headers["darkroom-cost-usd"]) == ("darkroom; hit", "0")
    assert (hit.headers["darkroom-saved-usd"], hit.headers["darkroom-mode"]) == ("0.065", "live")
    assert int(hit.headers["age"]) >= 0
    assert hit.headers["x-request-id"] != bought.headers["x-request-id"]
    assert fake.calls == 1


async def test_the_picture_is_served_for_ever_though_the_provider_s_address_died(
    both: tuple[Gateway, FakeProvider],
) -> None:
    gateway, fake = both
    answer = await gateway.generate(await gateway.new_key(), seed=1, output_format="png")
    fake.kill_images()
    [image] = answer.json()["data"]
    served = await gateway.get(image["url"])
    with Image.open(io.BytesIO(served.content)) as picture:
        assert (picture.format, picture.size) == ("PNG", (image["width"], image["height"]))
    assert served.headers["content-type"] == image["content_type"] == "image/png"
    assert served.headers["etag"] == f'"{hashlib.sha256(served.content).hexdigest()}"'
    assert "immutable" in served.headers["cache-control"]
    assert served.headers["x-content-type-options"] == "nosniff"
    assert (await gateway.get(image["url"], **{"if-none-match": served.headers["etag"]})).status_code == 304
    part = await gateway.get(image["url"], range="bytes=0-3")
    assert (part.status_code, part.content) == (206, served.content[:4])
    head = await gateway.http.head(image["url"])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(served.content)))


async def test_b64_json_gives_the_same_bytes_and_no_url(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    key = await gateway.new_key()
    by_url = await gateway.generate(key, seed=1)
    by_b64 = await gateway.generate(key, seed=1, response_format="b64_json")
    [item] = by_b64.json()["data"]
    assert "url" not in item
    assert base64.b64decode(item["b64_json"]) == (await gateway.get(by_url.json()["data"][0]["url"])).content
    assert by_b64.headers["cache-status"] == "darkroom; hit"
    assert fake.calls == 1


@pytest.mark.parametrize(("shape", "seed"), [("A", 5), ("B", 5), ("C_url", None), ("C_b64", None)])
async def test_every_shape_of_the_provider_is_answered_with_the_superset(
    both: tuple[Gateway, FakeProvider], shape: Any, seed: int | None
) -> None:
    gateway, fake = both
    fake.behaviour.shape = shape
    body = (await gateway.generate(await gateway.new_key(), seed=5, image_size="square", n=2)).json()
    assert [(i["width"], i["height"], i["content_type"]) for i in body["data"]] == [(512, 512, "image/jpeg")] * 2
    assert body.get("seed") == seed
    assert body["meta"]["usage"]["usd_spent"] == 0.13
    assert fake.bill[0]["body"]["num_images"] == 2


async def test_an_unseeded_call_buys_a_new_picture_each_time(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    key = await gateway.new_key()
    answers = [await gateway.generate(key) for _ in range(2)]
    assert fake.calls == 2
    assert {answer.headers["cache-status"] for answer in answers} == {"darkroom; fwd=bypass; detail=no-seed"}


async def test_cache_control_of_the_request_is_honoured(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    key = await gateway.new_key()

    async def ask(directive: str) -> Any:
        return await gateway.generate(key, seed=1, headers={"cache-control": directive})

    absent = await ask("only-if-cached")
    assert (absent.status_code, absent.json()["error"]["code"]) == (504, "not_cached")
    assert absent.headers["x-should-retry"] == "false"
    assert (await ask("no-store")).headers["cache-status"] == "darkroom; fwd=bypass; detail=no-store"
    assert (await ask("only-if-cached")).status_code == 504
    assert (await ask("max-age=60")).headers["cache-status"] == "darkroom; fwd=miss; stored"
    assert (await ask("max-age=60, only-if-cached")).headers["cache-status"] == "darkroom; hit"
    assert (await ask("no-cache")).headers["cache-status"] == "darkroom; fwd=request; stored"
    assert fake.calls == 3


@pytest.mark.parametrize(
    ("body", "status", "field", "said"),
    [
        (b"{", 400, None, "not valid JSON"),
        (b'{"model": "flux-pro", "prompt": "x", "seed": NaN}', 400, None, "not valid JSON"),
        (b'{"model": "flux-pro", "prompt": "\\ud800"}', 400, None, "not valid JSON"),
        (b'{"model": "flux-pro", "prompt": "\xff"}', 400, None, "not valid JSON"),
        (b"[" * 30000 + b"]" * 30000, 400, None, "nested too deeply"),
        (b"[]", 400, None, "Expected a JSON object"),
        (b'{"prompt": "x"}', 400, "model", "Required"),
        (b'{"model": "flux-pro"}', 400, "prompt", "Required"),
        (b'{"model": "other", "prompt": "x"}', 404, "model", "flux-pro"),
        (b'{"model": "flux-pro", "prompt": "x", "num_images": true}', 400, "num_images", "boolean true"),
        (b'{"model": "flux-pro", "prompt": "x", "num_images": 5}', 400, "num_images", "at most 4"),
        (b'{"model": "flux-pro", "prompt": "x", "seed": 0}', 400, "seed", "at least 1"),
        (b'{"model": "flux-pro", "prompt": "x", "seed": null}', 400, "seed", "null"),
        (b'{"model": "flux-pro", "prompt": "x", "seed": 1e30}', 400, "seed", "at most"),
        (b'{"model": "flux-pro", "prompt": "x", "image_size": {"width": 300}}', 400, "image_size", "multiple of 32"),
        (b'{"model": "flux-pro", "prompt": "x", "size": "1x"}', 400, "size", "WIDTHxHEIGHT"),
        (b'{"model": "flux-pro", "prompt": "x", "n": 2.5}', 400, "n", "integer"),
        (b'{"model": "flux-pro", "prompt": "x", "stream": true}', 400, "stream", "stream: Leave it out"),
        (b'{"model": "flux-pro", "prompt": "' + b"x" * 70000 + b'"}', 413, None, "larger than"),
    ],
)  # fmt: skip
async def test_bad_input_is_told_what_was_wrong_and_buys_nothing(
    both: tuple[Gateway, FakeProvider], body: bytes, status: int, field: str | None, said: str
) -> None:
    gateway, fake = both
    key = await gateway.new_key()
    answer, quoted = await gateway.post(key, body), await gateway.post(key, body, path="/v1/images/quote")
    refusal = answer.json()
    assert (quoted.status_code, quoted.json()["message"]) == (status, refusal["message"])
    assert (answer.status_code, refusal["error"]["param"]) == (status, field)
    assert said in refusal["message"] == refusal["error"]["message"]
    assert refusal["statusCode"] == refusal["status"] == status
    assert refusal["requestId"] == answer.headers["x-request-id"]
    assert fake.calls == 0


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/quote"])
@pytest.mark.parametrize(
    ("header", "value", "body"),
    [
        ("Content-Encoding", "gzip", gzip.compress(b'{"model": "flux-pro", "prompt": "x"}', mtime=0)),
        (
            "Content-Type",
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n',
        ),
    ],
)
async def test_a_body_that_is_packed_or_a_form_is_told_by_the_header_that_says_so(
    both: tuple[Gateway, FakeProvider], path: str, header: str, value: str, body: bytes
) -> None:
    gateway, fake = both
    headers = {"Authorization": f"Bearer {await gateway.new_key()}", header: value}
    answer = await gateway.http.post(gateway.base_url + path, content=body, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, header)
    assert f"{header}: {value.partition(';')[0]}" in error["message"]
    assert fake.calls == 0


async def test_unknown_keys_are_ignored_and_not_passed_on(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    extra: dict[str, Any] = {
        "enable_safety_checker": True,
        "quality": "hd",
        "sync_mode": 1,
        "user": "end-user",
        "style": None,
    }
    assert (await gateway.generate(await gateway.new_key(), seed=1, **extra)).status_code == 200
    assert not set(extra) & set(fake.bill[0]["body"])


@pytest.mark.parametrize("key", ["", "nonsense", "dk_live_" + "0" * 50, ADMIN_KEY])
async def test_a_wrong_key_is_refused(both: tuple[Gateway, FakeProvider], key: str) -> None:
    gateway, fake = both
    answer = await gateway.generate(key, seed=1)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert fake.calls == 0


async def test_a_test_key_is_served_by_the_sandbox_in_a_world_of_its_own(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    user = await gateway.new_user()
    test, live = await gateway.new_key(user_id=user, mode="test"), await gateway.new_key(user_id=user)
    drawn = await gateway.generate(test, seed=1)
    assert (drawn.status_code, drawn.headers["darkroom-provider"], drawn.headers["darkroom-mode"]) == (
        200,
        "sandbox",
        "test",
    )
    assert fake.calls == 0
    assert (await gateway.generate(live, seed=1)).headers["darkroom-provider"] == "aimlapi"
    assert ((await gateway.usage())["cost_usd"], (await gateway.usage(mode="test"))["cost_usd"]) == ("0.065", "0.065")


async def test_a_rate_limit_names_itself_and_says_when_to_come_again(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    key = await gateway.new_key(limits=[{"metric": "requests", "window": "minute", "amount": 2}])
    first = await gateway.generate(key, seed=1)
    assert first.headers["ratelimit-policy"] == '"user-requests-minute";q=2;w=60'
    assert first.headers["ratelimit"].startswith('"user-requests-minute";r=1;t=')
    await gateway.generate(key, seed=1)
    refused = await gateway.generate(key, seed=1)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"]) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert (
        error["data"] | {"limit": "user-requests-minute", "scope": "user", "asked": "1", "left": "0"} == error["data"]
    )
    assert fake.calls == 1


async def test_a_quote_costs_nothing_and_says_what_a_call_would(both: tuple[Gateway, FakeProvider]) -> None:
    gateway, fake = both
    key = await gateway.new_key(limits=[{"metric": "cost_usd", "window": "day", "amount": "1"}])
    body = {"model": "flux-pro", "prompt": "x", "seed": 1, "num_images": 2}
    quote = (await gateway.post(key, body, path="/v1/images/quote")).json()
    assert (quote["cost_usd"], quote["hit"]) == ("0.13", False)
    assert quote["limits"][0] | {"limit": "user-cost_usd-day", "left": "1"} == quote["limits"][0]
    assert fake.calls == 0
    await gateway.post(key, body)
    quote = (await gateway.post(key, body, path="/v1/images/quote")).json()
    assert (quote["cost_usd"], quote["hit"], quote["limits"][0]["left"]) == ("0", True, "0.87")


async def test_web_pages_of_configured_origins_alone_may_call(tmp_path: Path) -> None:
    server = {"port": free_port(), "cors_origins": ["https://studio.example"]}
    async with gateway_and_provider(tmp_path, server=server) as (gateway, _):
        key = await gateway.new_key()
        for _ in range(2):  # bought, then from memory
            answer = await gateway.generate(key, seed=1, headers={"origin": "https://studio.example"})
            assert answer.headers["access-control-allow-origin"] == "https://studio.example"
            assert "Darkroom-Cost-USD".lower() in answer.headers["access-control-expose-headers"].lower()
        other = await gateway.generate(key, seed=1, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        asked = {"origin": "https://studio.example", "access-control-request-method": "POST"}
        preflight = await gateway.http.options(gateway.base_url + PATH, headers=asked)
        assert preflight.status_code == 200


async def test_a_purge_takes_the_pictures_with_it(tmp_path: Path) -> None:
    async with gateway_and_provider(tmp_path) as (gateway, fake):
        key = await gateway.new_key()
        url = (await gateway.generate(key, seed=1)).json()["data"][0]["url"]
        assert await gateway.admin("POST", "/cache/purge", {"model": "flux-pro"}) == {"object": "purge", "purged": 1}
        gone = await gateway.get(url)
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "image_removed")
        assert (await gateway.generate(key, seed=1)).headers["cache-status"] == "darkroom; fwd=miss; stored"
        assert fake.calls == 2
