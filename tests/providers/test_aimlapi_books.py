from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.books import Row
from gateway.demo.provider import FakeProvider, running
from gateway.domain.books import BookEntry
from gateway.domain.outcome import UpstreamFailure
from gateway.providers.aimlapi import AimlapiProvider
from gateway.providers.aimlapi_books import logs_query, read_balance, read_page
from gateway.providers.base import BooksUnavailable, NoBooks, Order, ProviderKey
from gateway.providers.sandbox import SandboxProvider
from tests.support.raw_server import answering, close_after_reading, raw_server

KEY = ProviderKey("pk_1", "provider-secret")
ROW = {
    "created": "2026-07-02T03:04:05.000Z",
    "status": "succeeded",
    "origin": "api",
    "model": "flux-pro",
    "cost": {"usd": 0.065, "credits": 130000},
    "tokens": {"input": 0, "output": 0, "total": 0},
    "request_id": "req-1",
    "inference_id": "inf-1",
    "client_request_id": "gen_1",
}
LAST = {"limit": 100, "offset": 0, "total": 1, "has_more": False}
CREATED_MS = 1_782_961_445_000


def page(*rows: Any, pagination: Any = LAST, name: str = "data") -> bytes:
    return json.dumps({name: rows, "pagination": pagination}).encode()


def test_reads_the_documented_page() -> None:
    found = read_page(page(ROW))
    assert found.entries == [BookEntry("gen_1", "req-1", "inf-1", CREATED_MS, "succeeded", "flux-pro", 65_000)]
    assert not found.has_more


@pytest.mark.parametrize("name", ["data", "logs", "items"])
def test_finds_the_rows_by_any_usual_name(name: str) -> None:
    assert len(read_page(page(ROW, name=name)).entries) == 1


@pytest.mark.parametrize(
    "created",
    [
        "2026-07-02T03:04:05Z",
        "2026-07-02T03:04:05",
        "2026-07-02T06:04:05+03:00",
        1782961445,
        CREATED_MS,
        "2026-W27-4T03:04:05",
    ],
)
def test_reads_times_in_any_usual_form(created: Any) -> None:
    assert read_page(page(ROW | {"created": created})).entries[0].created_ms == CREATED_MS


@pytest.mark.parametrize(
    ("cost", "micro_usd"),
    [
        ({"usd": 0.065}, 65_000),
        ({"usd": "0.065"}, 65_000),
        ({"usd": None, "credits": 130_000}, 65_000),
        ({"usd": 0, "credits": 0}, 0),
        ({"usd": 0.0000001}, 1),
    ],
)
def test_reads_costs_and_rounds_them_up(cost: Any, micro_usd: int) -> None:
    assert read_page(page(ROW | {"cost": cost})).entries[0].cost_micro_usd == micro_usd


@pytest.mark.parametrize("missing", ["request_id", "inference_id", "client_request_id", "model"])
def test_what_a_row_may_lack(missing: str) -> None:
    assert getattr(read_page(page(ROW | {missing: None})).entries[0], missing) is None


NOT_UNDERSTOOD: list[tuple[str, Any]] = [
    *(("created", None), ("created", ""), ("created", "soon"), ("created", True), ("created", -1), ("created", 0)),
    *(("cost", None), ("cost", 0.065), ("cost", 130_000), ("cost", {}), ("cost", {"credits": "much"})),
    *(("cost", {"usd": -1}), ("cost", {"usd": "nan"}), ("cost", {"usd": 1e9}), ("cost", {"usd": True})),
    *(("status", None), ("status", ""), ("status", 5)),
]


@pytest.mark.parametrize(("field", "said"), NOT_UNDERSTOOD)
def test_a_row_that_is_not_understood_spoils_the_page(field: str, said: Any) -> None:
    reason = "no time" if field == "created" else f"no {field}"
    with pytest.raises(BooksUnavailable, match=reason):
        read_page(page(ROW, ROW | {field: said}))


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"null",
            b"[]",
            b"{}",
            b"<!doctype html>",
            b"\xff\xfe",
            b'{"data": {}}',
            b'{"data": [5]}',
            b"[" * 100_000,
        ),
        page(pagination={"has_more": True}),
        page(*[ROW] * 100, pagination=None),
        page(ROW)[:-20],
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_what_can_not_be_believed_whole_is_refused(body: bytes) -> None:
    with pytest.raises(BooksUnavailable):
        read_page(body)


Json = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=3)


@given(st.fixed_dictionaries(dict.fromkeys(ROW, Json)), Json)
def test_any_row_is_read_or_refused(row: dict[str, Any], pagination: Any) -> None:
    try:
        entry = read_page(page(row, pagination=pagination)).entries[0]
    except BooksUnavailable:
        return
    assert entry.cost_micro_usd >= 0
    assert entry.status


@pytest.mark.parametrize(("said", "micro_usd"), [(123.45, 123_450_000), (0, 0), (-0.5, -500_000), ("7", 7_000_000)])
def test_reads_a_balance(said: Any, micro_usd: int) -> None:
    assert read_balance(json.dumps({"current_balance": said, "currency": "USD"}).encode()) == micro_usd


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"current_balance": null}', b'{"current_balance": 5, "currency": "EUR"}', b"[5]"]
)
def test_a_balance_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BooksUnavailable):
        read_balance(body)


def test_a_page_is_asked_for_in_utc() -> None:
    assert logs_query(since_ms=CREATED_MS, until_ms=CREATED_MS + 1500, offset=100) == {
        "start": "2026-07-02T03:04:05.000Z",
        "end": "2026-07-02T03:04:06.500Z",
        "limit": "100",
        "offset": "100",
    }


@asynccontextmanager
async def provider_at(base_url: str) -> AsyncIterator[AimlapiProvider]:
    opened = AimlapiProvider("main", base_url=base_url, image_hosts=[], timeout_s=30)
    try:
        yield opened
    finally:
        await opened.close()


async def read_all(provider: AimlapiProvider, key: ProviderKey = KEY) -> list[BookEntry]:
    now_ms = int(time.time() * 1000)
    return await provider.read_books(key, since_ms=now_ms - 3_600_000, until_ms=now_ms + 3_600_000)


async def buy(provider: AimlapiProvider, generation_id: str) -> None:
    await provider.buy(Order(generation_id, "flux-pro", {"prompt": "A fox"}), KEY)


async def test_finds_every_call_in_the_books_over_many_pages() -> None:
    fake, now_s = FakeProvider(), time.time()
    for number in range(205):
        row = Row("provider-secret", now_s, "succeeded", "flux-pro", Decimal("0.065"), f"inf-{number}", f"gen_{number}")
        fake.books.rows.append(row)
    async with running(fake) as base_url, provider_at(base_url) as provider:
        found = await read_all(provider)
    assert sorted(entry.client_request_id or "" for entry in found) == sorted(f"gen_{n}" for n in range(205))
    assert {entry.cost_micro_usd for entry in found} == {65_000}


async def test_a_refused_call_stands_in_the_books_at_no_cost_and_a_lost_one_with_its_cost() -> None:
    fake = FakeProvider()
    fake.script.extend([{"refuse_status": 500}, {"answer_fault": "reset_after_charge"}])
    async with running(fake) as base_url, provider_at(base_url) as provider:
        for generation_id in ("gen_refused", "gen_lost"):
            with pytest.raises(UpstreamFailure):
                await buy(provider, generation_id)
        found = {entry.client_request_id: (entry.status, entry.cost_micro_usd) for entry in await read_all(provider)}
    assert found == {"gen_refused": ("failed", 0), "gen_lost": ("succeeded", 65_000)}


async def test_reads_the_balance_of_the_account() -> None:
    fake = FakeProvider()
    fake.books.balance_usd["provider-secret"] = Decimal("1.065")
    async with running(fake) as base_url, provider_at(base_url) as provider:
        await buy(provider, "gen_1")
        assert await provider.balance(KEY) == 1_000_000


@pytest.mark.parametrize(("status", "retry_after_s"), [(429, 60), (401, None), (500, None)])
async def test_books_that_are_refused_are_unavailable(status: int, retry_after_s: float | None) -> None:
    fake = FakeProvider()
    fake.books.books_status = status
    async with running(fake) as base_url, provider_at(base_url) as provider:
        for reading in (read_all(provider), provider.balance(KEY)):
            with pytest.raises(BooksUnavailable) as refused:
                await reading
            assert refused.value.retry_after_s == retry_after_s


@pytest.mark.parametrize("handler", [close_after_reading, answering(302, b"", "Location: /"), answering(200, b"{}")])
async def test_books_that_break_off_are_unavailable(handler: Any) -> None:
    async with raw_server(handler) as port, provider_at(f"http://127.0.0.1:{port}") as provider:
        with pytest.raises(BooksUnavailable):
            await read_all(provider)


async def test_the_sandbox_keeps_no_books() -> None:
    sandbox = SandboxProvider()
    assert await sandbox.balance(KEY) is None
    with pytest.raises(NoBooks):
        await sandbox.read_books(KEY, since_ms=0, until_ms=1)
