"""The demo provider's accounts: as strict as its documented books, and bad in every way on request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest

from gateway.demo.books import READS_A_MINUTE, KeyFault
from gateway.demo.provider import FakeProvider, running

BODY = {"model": "flux-pro", "prompt": "A fox", "image_size": {"width": 256, "height": 256}}


@asynccontextmanager
async def calling(fake: FakeProvider, key: str = "provider-secret") -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with running(fake) as base_url, httpx.AsyncClient(base_url=base_url, headers=headers) as client:
        yield client


async def post(client: httpx.AsyncClient, request_id: str = "gen_1", **changes: Any) -> httpx.Response:
    headers = {"X-Client-Request-Id": request_id}
    return await client.post("/v1/images/generations", json=BODY | changes, headers=headers)


async def rows(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v2/logs", params={"period": "1h", **query})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_every_call_of_a_known_key_has_a_row() -> None:
    async with calling(FakeProvider()) as client:
        bought = await post(client)
        await post(client, "gen_2", prompt=None)
        await client.post("/v1/images/generations", json=BODY, headers={"Authorization": "Bearer nobody"})
        refused, charged = await rows(client)
    assert (charged["client_request_id"], charged["status"], charged["model"]) == ("gen_1", "succeeded", "flux-pro")
    assert (charged["cost"], refused["cost"]) == ({"usd": 0.065, "credits": 130_000}, {"usd": 0, "credits": 0})
    assert charged["inference_id"] == bought.headers["x-inference-id"]
    assert (refused["client_request_id"], refused["status"]) == ("gen_2", "failed")


async def test_pages_are_walked_by_offset_newest_first() -> None:
    async with calling(FakeProvider()) as client:
        for number in range(3):
            await post(client, f"gen_{number}")
        first = (await client.get("/v2/logs", params={"period": "1d", "limit": 2})).json()
        last = (await client.get("/v2/logs", params={"period": "1d", "limit": 2, "offset": 2})).json()
        failed = await rows(client, status="failed")
    assert [row["client_request_id"] for row in first["data"] + last["data"]] == ["gen_2", "gen_1", "gen_0"]
    assert first["pagination"] == {"limit": 2, "offset": 0, "total": 3, "has_more": True}
    assert (last["pagination"]["has_more"], failed) == (False, [])


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"start": "2026-07-01"},
        {"period": "7d", "start": "2026-07-01", "end": "2026-07-02"},
        {"period": "7w"},
        {"period": "93d"},
        {"start": "soon", "end": "2026-07-02"},
        {"start": "2026-07-02", "end": "2026-07-01"},
        *({"period": "1d", "limit": limit} for limit in (0, 101, "x")),
        {"period": "1d", "status": "succeeded,failed"},
    ],
    ids=str,
)
async def test_a_query_that_is_not_documented_is_refused(query: dict[str, Any]) -> None:
    async with calling(FakeProvider()) as client:
        assert (await client.get("/v2/logs", params=query)).status_code == 400


async def test_a_key_sees_its_own_calls_only_and_a_stranger_none() -> None:
    async with calling(FakeProvider(keys=["a", "b"]), "a") as client:
        await post(client)
        other = await client.get("/v2/logs?period=1h", headers={"Authorization": "Bearer b"})
        stranger = await client.get("/v2/logs?period=1h", headers={"Authorization": "Bearer c"})
        assert len(await rows(client)) == 1
    assert (other.json()["data"], stranger.status_code) == ([], 401)


async def test_too_many_looks_at_the_logs_are_refused() -> None:
    fake = FakeProvider()
    async with calling(fake) as client:
        for _ in range(READS_A_MINUTE):
            fake.books.may_read("provider-secret", now=1e12)
        assert fake.books.may_read("provider-secret", now=1e12) is False
        assert fake.books.may_read("provider-secret", now=1e12 + 61) is True
        fake.books.books_status = 429
        assert (await client.get("/v2/logs?period=1h")).status_code == 429


async def test_calls_are_hidden_from_the_logs_by_id_or_for_a_time() -> None:
    fake = FakeProvider()
    async with calling(fake) as client:
        await post(client, "gen_1")
        await post(client, "gen_2")
        await client.post("/_control", json={"hide_from_books": ["gen_1"]})
        assert [row["client_request_id"] for row in await rows(client)] == ["gen_2"]
        await client.post("/_control", json={"hide_from_books": 60})
        assert await rows(client) == []
    assert len(fake.bill) == 2


async def test_charges_reduce_the_balance_and_at_nothing_the_key_is_out_of_credits() -> None:
    fake = FakeProvider(keys=["a", "b"])
    async with calling(fake, "a") as client:
        await client.post("/_control", json={"balance_usd": {"a": "0.13"}})
        assert [(await post(client)).status_code for _ in range(3)] == [200, 200, 403]
        told = (await client.get("/v2/billing")).json()
        refused = (await post(client)).json()
        other = await client.post("/v1/images/generations", json=BODY, headers={"Authorization": "Bearer b"})
    assert told == {"current_balance": 0, "currency": "USD"}
    assert refused["error"]["data"] == {"kind": "err_insufficent_credits"}
    assert (len(fake.bill), other.status_code, fake.books.balance_usd["a"]) == (3, 200, Decimal(0))


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [("revoked", 401, None), ("out_of_credits", 403, None), ("rate_limited", 429, "1")],
)
async def test_a_key_meets_its_fault_and_the_others_carry_on(
    fault: KeyFault, status: int, retry_after: str | None
) -> None:
    fake = FakeProvider(keys=["a", "b"])
    async with calling(fake, "a") as client:
        await client.post("/_control", json={"key_faults": {"a": fault}})
        refused = await post(client)
        other = await client.post("/v1/images/generations", json=BODY, headers={"Authorization": "Bearer b"})
        await client.post("/_control", json={"key_faults": {"a": None}})
        again = await post(client)
    assert (refused.status_code, refused.headers.get("retry-after")) == (status, retry_after)
    assert (other.status_code, again.status_code) == (200, 200)
    assert fake.books.calls_by_key == {"a": 2, "b": 1}
