"""What a hostile or broken client sends, and what it must not be able to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.gateway import ADMIN_KEY, Gateway, gateway_and_provider


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_and_provider(tmp_path) as (running, _):
        yield running


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1000):
        yield b"x" * 1000


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/quote", "/admin/v1/users"])
async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(gateway: Gateway, path: str) -> None:
    key = ADMIN_KEY if "admin" in path else await gateway.new_key()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answer = await gateway.http.post(gateway.base_url + path, content=chunks(80_000), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


async def raw(gateway: Gateway, *parts: bytes) -> bytes:
    address = urlsplit(gateway.base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_head_that_does_not_end_is_refused(gateway: Gateway) -> None:
    answer = await raw(gateway, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ", *[b"a" * 20_000] * 4)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"head_too_large"' in answer


async def test_a_large_head_that_ends_in_time_is_answered(gateway: Gateway) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: " + b"a" * 40_000
    assert (await raw(gateway, head, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_an_old_client_hears_where_a_hit_ends(gateway: Gateway) -> None:
    """HTTP/1.0: unless the answer says keep-alive, it ends with its connection."""
    key = await gateway.new_key()
    assert (await gateway.generate(key, seed=1)).is_success
    body = b'{"model":"flux-pro","prompt":"A lighthouse at dawn","seed":1}'
    head = f"POST /v1/images/generations HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Bearer {key}\r\n"
    answer = await raw(gateway, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert b"cache-status: darkroom; hit" in answer


async def test_a_client_that_leaves_in_the_middle_of_a_body_harms_nobody(gateway: Gateway) -> None:
    key = await gateway.new_key()
    for path in (b"/v1/images/generations", b"/v1/images/quote"):
        address = urlsplit(gateway.base_url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await gateway.generate(key, seed=1)).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ("bytes=0-3", 206), ("bytes=-4", 206), ("bytes=4-", 206), ("bytes=abc", 200), ("items=0-1", 200),
        ("bytes=0-1,4-5", 200), ("bytes=5-1", 200), ("bytes=99999999-", 416), ("bytes=-0", 416),
    ],
)  # fmt: skip
async def test_a_range_is_served_ignored_or_refused_in_the_envelope(gateway: Gateway, wanted: str, status: int) -> None:
    url = (await gateway.generate(await gateway.new_key(mode="test"), seed=1)).json()["data"][0]["url"]
    answer = await gateway.get(url, range=wanted)
    assert answer.status_code == status
    if status == 416:
        assert answer.json()["error"]["code"] == "range_not_satisfiable"
        assert answer.headers["content-range"].startswith("bytes */")


async def test_what_another_limit_refuses_takes_no_request_of_the_caller(gateway: Gateway) -> None:
    limits: list[dict[str, Any]] = [
        {"metric": "requests", "window": "day", "amount": 10},
        {"metric": "requests", "window": "minute", "amount": 10},
        {"metric": "cost_usd", "window": "day", "amount": "0.01"},
    ]
    key = await gateway.new_key(limits=limits)
    for seed in range(1, 4):
        assert (await gateway.generate(key, seed=seed)).json()["error"]["data"]["limit"] == "user-cost_usd-day"
    left = {line["limit"]: line["left"] for line in (await gateway.get("/v1/usage", key)).json()["limits"]}
    assert (left["user-requests-day"], left["user-requests-minute"]) == ("10", "10")


async def test_quotes_take_nothing_and_leave_no_row(gateway: Gateway) -> None:
    key = await gateway.new_key(limits=[{"metric": "requests", "window": "day", "amount": 2}])
    body = {"model": "flux-pro", "prompt": "x", "seed": 1}
    for _ in range(5):
        quote = await gateway.post(key, body, path="/v1/images/quote")
        assert (quote.status_code, quote.json()["limits"][0]["left"]) == (200, "2")
    assert (await gateway.usage())["requests"] == 0


async def test_times_may_be_unix_seconds_in_a_query_too(gateway: Gateway) -> None:
    assert await gateway.usage(**{"from": "1767139200", "to": "2027-01-01T00:00:00Z"})
