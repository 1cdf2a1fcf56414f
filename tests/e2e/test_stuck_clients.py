"""F18, F19: clients that send slowly, endlessly or nonsense are refused; others are served meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from gateway.demo.provider import FakeProvider
from tests.e2e.test_crashes import gateway_process
from tests.support.gateway import Gateway, gateway_and_provider
from tests.support.ports import free_port
from tests.support.raw_client import RawClients, post

QUICK = {"head_timeout_s": 0.5, "body_timeout_s": 0.5}
PATIENT = {"head_timeout_s": 60, "body_timeout_s": 60}
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = json.dumps({"model": "flux-pro", "prompt": "A lighthouse", "seed": 7}).encode()
GIB = 2**30
MARGIN_BYTES = 64 * 2**20

Both = tuple[Gateway, FakeProvider]


@pytest.fixture
async def both(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    """Patient with tests that say `nobody_is_late`, lest a stalled machine make somebody late."""
    server = {"port": free_port(), **getattr(request, "param", QUICK)}
    async with gateway_and_provider(tmp_path, server=server) as running:
        yield running


@pytest.fixture
def gateway(both: Both) -> Gateway:
    return both[0]


@pytest.fixture
async def connect(gateway: Gateway) -> AsyncIterator[RawClients]:
    async with RawClients(gateway.base_url) as clients:
        yield clients


nobody_is_late = pytest.mark.parametrize("both", [PATIENT], ids=["patient"], indirect=True)


async def time_is_up(connect: RawClients) -> None:
    """Once a client that came now would have been refused."""
    assert (await (await connect(b"GET")).answer()).status == 408


async def test_silent_connections_by_the_hundred_are_closed(gateway: Gateway, connect: RawClients) -> None:
    silent = await asyncio.gather(*(connect(b"GET"[: n % 4]) for n in range(300)))
    assert (await gateway.generate(await gateway.new_key(), seed=1)).status_code == 200
    answers = await asyncio.gather(*(client.answer() for client in silent))
    assert {(answer.status, answer.code) for answer in answers} == {(408, "request_timeout")}
    assert [await client.closed() for client in silent] == [b""] * 300


@pytest.mark.parametrize("start", [b"GET /livez HTTP/1.1\r\nX: ", GET + b"GET /livez HTTP/1.1\r\nX: "])
async def test_a_head_that_drips_is_refused(start: bytes, connect: RawClients) -> None:
    client = await connect(start)
    if start.startswith(GET):
        assert (await client.answer()).status == 200
    dripping = asyncio.create_task(client.send_for_ever(b"a", pause_s=0.05))
    answer = await client.answer()
    assert (answer.status, answer.code, answer.headers["connection"]) == (408, "request_timeout", "close")
    await dripping


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/quote"])
async def test_a_body_that_drips_is_refused_and_is_no_call(both: Both, connect: RawClients, path: str) -> None:
    gateway, fake = both
    client = await connect(post(await gateway.new_key(), BODY, length=10**4, path=path))
    dripping = asyncio.create_task(client.send_for_ever(b" ", pause_s=0.05))
    assert (await client.answer()).status == 408
    await dripping
    assert (await gateway.requests(), fake.calls) == ([], 0)


async def test_an_idle_connection_between_two_requests_is_not_timed(connect: RawClients) -> None:
    client = await connect(GET)
    assert (await client.answer()).status == 200
    await time_is_up(connect)
    await client.send(GET)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("after", [b"POST /v1", b"\0garbage\r\n\r\n", GET[:-2]])
async def test_what_follows_a_call_does_not_take_its_answer(both: Both, connect: RawClients, after: bytes) -> None:
    gateway, fake = both
    fake.gate = asyncio.Event()
    client = await connect(post(await gateway.new_key(), BODY))
    await fake.wait_for_calls(1)
    await client.send(after)
    await time_is_up(connect)
    fake.gate.set()
    assert (await client.answer()).status == 200


@nobody_is_late
async def test_an_early_refusal_reaches_a_client_that_is_still_sending(gateway: Gateway, connect: RawClients) -> None:
    client = await connect(post(await gateway.new_key(), b"", length=GIB))
    assert (await client.answer()).code == "body_too_large"
    await client.send_for_ever(b"x" * 65_536)


@nobody_is_late
@pytest.mark.parametrize(
    "sent",
    [
        post("k", b"hello").replace(b"Content-Length: 5", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
        post("k", b"hello").replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 6"),
        GET.replace(b"\r\n", b"\n"),
        GET.replace(b"Host: x\r\n", b"Host: x\nX: y\r\n"),
        GET.replace(b"Host: x", b"Host: x\r\nHost: y"),
        GET.replace(b"Host: x\r\n", b""),
        GET.replace(b"Host: x", b"Host: x\r\nX: y\r\n folded"),
        GET.replace(b"Host: x", b"Host: x\r\nX: y\0z"),
        GET.replace(b"Host: x", b"Host: x\r\nX : y"),
        post("k").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"5\nhello\n0\n\n",
        GET.replace(b"GET /livez", b"CONNECT x:80"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused_in_the_envelope(sent: bytes, connect: RawClients) -> None:
    client = await connect(sent)
    answer = await client.answer()
    assert (answer.status, answer.code, answer.headers["connection"]) == (400, "invalid_request", "close")
    assert await client.closed() == b""


OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n",
]


@nobody_is_late
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_an_offer_of_another_protocol_is_not_taken_up_and_hides_no_second_request(
    gateway: Gateway, connect: RawClients, *, offer: bytes, chunked: bool, in_pieces: bool
) -> None:
    """The body is the body, whatever it looks like; Java's own client makes such an offer with its first call."""
    key = await gateway.new_key()
    for body, status in ((BODY, 200), (BODY, 200), (GET, 400)):
        sent = post(key, body).replace(b"Host: x\r\n", b"Host: x\r\n" + offer, 1)
        if chunked:
            sent = sent.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
            sent = sent.removesuffix(body) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        pieces = [sent[at : at + 50] for at in range(0, len(sent), 50)] if in_pieces else [sent]
        client = await connect(b"")
        for piece in pieces:
            await client.send(piece)
        await client.send(GET.replace(b"Host: x\r\n", b"Host: x\r\n" + offer))
        await client.send(GET.replace(b"/livez", b"/nowhere"))
        assert (await client.answer()).status == status
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 404


async def test_endless_senders_are_cut_off_and_memory_stays_flat(tmp_path: Path) -> None:
    async with gateway_process(tmp_path, FakeProvider()) as (process, gateway):
        key = await gateway.new_key()
        await gateway.generate(key, seed=1)
        before = psutil.Process(process.pid).memory_info().rss
        chunked = post(key).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        piece = b"x" * 65_536
        endless = [
            (post(key, length=GIB), piece),
            (chunked, b"10000\r\n" + piece + b"\r\n"),
            (chunked + b"0\r\n", b"X-Trailer: " + piece + b"\r\n"),
            (chunked + b"0\r\nX: ", piece),
            (chunked + b"1;", piece),
            (b"GET /livez HTTP/1.1\r\nX: ", piece),
        ]
        async with RawClients(gateway.base_url) as connect:
            clients = [await connect(start) for start, _ in endless * 5]
            senders = [client.send_for_ever(piece) for client, (_, piece) in zip(clients, endless * 5, strict=True)]
            sending = asyncio.gather(*senders)
            assert (await gateway.generate(key, seed=1)).status_code == 200
            await sending
        assert psutil.Process(process.pid).memory_info().rss - before < MARGIN_BYTES
