from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
import zlib
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import ClientConnectionError
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.domain.outcome import Lost, NotSent
from gateway.providers.http import TRANSPORT_ERRORS, BodyTooLong, Upstream, event_of
from tests.support.raw_server import (
    Handler,
    close_after_reading,
    dripping,
    raw_server,
    read_request,
    reset,
    reset_after_reading,
    reset_unread,
    stall,
)


async def observe(
    url: str, *, connect_timeout_s: float = 60, deadline_s: float = 60, resolver: AbstractResolver | None = None
) -> NotSent | Lost:
    """What a POST to `url` proves."""
    upstream = Upstream(connect_timeout_s=connect_timeout_s, resolver=resolver)
    try:
        async with asyncio.timeout(deadline_s), upstream.stream("POST", url, headers={}, content=b"{}") as response:
            await response.read(1000)
    except TRANSPORT_ERRORS as exc:
        return event_of(exc)
    finally:
        await upstream.aclose()
    raise AssertionError("the call went through")


async def truncates(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nonly this")
    await writer.drain()


async def resets_in_mid_body(reader: Reader, writer: Writer) -> None:
    await truncates(reader, writer)
    reset(writer)


async def breaks_off_in_a_chunk(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nonly this")
    await writer.drain()


async def speaks_no_http(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await writer.drain()


async def lies_about_gzip(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain")
    await writer.drain()


async def packs_and_truncates(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    packed = gzip.compress(bytes(range(256)))[:-20]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
    await writer.drain()


async def packs_twice(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    packed = gzip.compress(gzip.compress(b"0" * 10**6))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    writer.write(head.encode() + packed)
    await writer.drain()


async def echoes(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"a secret prompt\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    "handler",
    [
        packs_and_truncates,
        packs_twice,
        reset_unread,
        reset_after_reading,
        close_after_reading,
        truncates,
        resets_in_mid_body,
        breaks_off_in_a_chunk,
        speaks_no_http,
        lies_about_gzip,
    ],
)
async def test_whatever_breaks_after_connecting_is_lost(handler: Handler) -> None:
    async with raw_server(handler) as port:
        event = await observe(f"http://127.0.0.1:{port}/")
    assert isinstance(event, Lost)
    assert not event.timed_out
    assert event.reason


@pytest.mark.parametrize("handler", [stall, dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")])
async def test_an_answer_past_the_deadline_is_lost_by_time_out(handler: Handler) -> None:
    async with raw_server(handler) as port:
        event = await observe(f"http://127.0.0.1:{port}/", deadline_s=0.1)
    assert isinstance(event, Lost)
    assert event.timed_out


async def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # bound but not listening: refused
        event = await observe(f"http://127.0.0.1:{unheard.getsockname()[1]}/")
    assert isinstance(event, NotSent)


@pytest.mark.parametrize("handler", [reset_unread, close_after_reading, stall])
async def test_a_failed_tls_handshake_proves_that_nothing_was_sent(handler: Handler) -> None:
    async with raw_server(handler) as port:
        assert isinstance(await observe(f"https://127.0.0.1:{port}/", connect_timeout_s=0.2), NotSent)


class NoSuchName(AbstractResolver):
    async def resolve(self, *_: Any, **__: Any) -> list[ResolveResult]:
        raise OSError("Name or service not known")

    async def close(self) -> None: ...


class HangingResolver(NoSuchName):
    async def resolve(self, *_: Any, **__: Any) -> list[ResolveResult]:
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize("resolver", [NoSuchName, HangingResolver])
async def test_a_failed_name_lookup_proves_that_nothing_was_sent(resolver: type[AbstractResolver]) -> None:
    event = await observe("http://provider.example/", connect_timeout_s=0.2, resolver=resolver())
    assert isinstance(event, NotSent)


async def test_what_is_no_answer_is_not_quoted() -> None:
    async with raw_server(echoes) as port:
        seen = await observe(f"http://127.0.0.1:{port}/")
    assert isinstance(seen, Lost)
    assert "secret" not in seen.reason


async def status(upstream: Upstream, port: int) -> int:
    """Of the answer to a POST, whose body is read."""
    url = f"http://127.0.0.1:{port}/"
    async with upstream.stream("POST", url, headers={}, content=b"{}") as response:
        await response.read(1000)
        return response.status


async def test_a_post_is_never_repeated_on_a_connection_that_went_stale() -> None:
    requests = 0

    async def answers_once(reader: Reader, writer: Writer) -> None:
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await read_request(reader)  # on the same connection
        requests += 1

    upstream = Upstream(connect_timeout_s=5)
    async with raw_server(answers_once) as port, aclosing(upstream):
        await status(upstream, port)
        with pytest.raises(TRANSPORT_ERRORS) as failed:
            await status(upstream, port)
    assert isinstance(event_of(failed.value), Lost)
    assert requests == 2


def test_an_unknown_failure_is_lost() -> None:
    assert isinstance(event_of(ClientConnectionError("Connector is closed.")), Lost)
    assert event_of(RuntimeError()) == Lost("RuntimeError")


async def test_cookies_and_redirects_are_left_alone() -> None:
    heads: list[bytes] = []

    async def redirects(reader: Reader, writer: Writer) -> None:
        for _ in range(2):
            heads.append(await read_request(reader))
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    upstream = Upstream(connect_timeout_s=5)
    async with raw_server(redirects) as port, aclosing(upstream):
        answers = [await status(upstream, port) for _ in range(2)]
    assert answers == [302, 302]
    assert b"user-agent: darkroom/" in heads[1].lower()
    assert b"cookie" not in heads[1].lower()


def sending(body: bytes, *head: bytes) -> Handler:
    async def sends(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *head]
        writer.write(b"\r\n".join([*lines, b"", body]))
        await writer.drain()

    return sends


async def read(handler: Handler, max_bytes: int) -> tuple[Mapping[str, str], bytes]:
    """The headers and the body of an answer."""
    upstream = Upstream(connect_timeout_s=5)
    async with (
        raw_server(handler) as port,
        aclosing(upstream),
        upstream.stream("GET", f"http://127.0.0.1:{port}/", headers={}) as response,
    ):
        return response.headers, await response.read(max_bytes)


PACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"identity": bytes,
    b"gzip": gzip.compress,
    b"Deflate": zlib.compress,
    b"of-its-own": bytes,
}


@pytest.mark.parametrize("coding", PACKERS)
async def test_a_body_is_read_up_to_its_cap(coding: bytes) -> None:
    plain = b"0" * 100_000
    handler = sending(PACKERS[coding](plain), b"Content-Encoding: " + coding)
    assert (await read(handler, 100_000))[1] == plain
    with pytest.raises(BodyTooLong):
        await read(handler, 99_999)


async def test_no_more_is_unpacked_than_the_cap_allows() -> None:
    handler = sending(gzip.compress(b"0" * 50_000_000), b"Content-Encoding: gzip")
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLong):
            await read(handler, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


async def test_headers_are_found_in_any_case_and_can_be_written_down() -> None:
    headers, _ = await read(sending(b"", b"X-Inference-Id: caf\xe9", b"X-Other: caf\xc3\xa9"), 10)
    assert (headers["x-inference-id"], headers["X-OTHER"]) == ("caf\xe9", "caf\xc3\xa9")
    assert all(value.encode() for value in headers.values())
