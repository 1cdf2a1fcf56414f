from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.domain.picture import ImageUnusable
from gateway.providers.image_fetch import ImageFetcher, PublicResolver, is_public
from tests.support.raw_server import Handler, raw_server, read_request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes"


@asynccontextmanager
async def fetcher(*hosts: str, max_bytes: int = 1000, timeout_s: float = 30) -> AsyncIterator[ImageFetcher]:
    opened = ImageFetcher(hosts, max_bytes=max_bytes, timeout_s=timeout_s)
    try:
        yield opened
    finally:
        await opened.close()


def answering(*answers: bytes, heads: list[bytes] | None = None) -> Handler:
    """Gives the answers in turn, one a connection."""
    left = list(answers)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_request(reader)
        if heads is not None:
            heads.append(head)
        writer.write(left.pop(0).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        await writer.drain()

    return handler


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


async def refusal(handler: Handler, *, max_bytes: int = 1000, timeout_s: float = 30) -> ImageUnusable:
    async with (
        raw_server(handler) as port,
        fetcher(f"127.0.0.1:{port}", max_bytes=max_bytes, timeout_s=timeout_s) as images,
    ):
        with pytest.raises(ImageUnusable) as refused:
            await images.fetch(f"http://127.0.0.1:{port}/a.jpg")
    return refused.value


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "104.18.20.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"),
    ],
)
def test_public_addresses_may_be_dialled(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1"),
        *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::a00:1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::1", "2002:a00:1::1"),
        *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:7f00:1::", "100::1"),
    ],
)
def test_no_other_address_may_be_dialled(address: str) -> None:
    assert not is_public(address)


async def test_fetches_from_a_listed_host_and_says_who_asks() -> None:
    heads: list[bytes] = []
    async with raw_server(answering(OK, heads=heads)) as port, fetcher(f"127.0.0.1:{port}") as images:
        assert await images.fetch(f"http://127.0.0.1:{port}/a.jpg?sig=1") == b"bytes"
    assert b"user-agent: darkroom/" in heads[0].lower()
    assert b"authorization" not in heads[0].lower()


async def test_a_host_named_localhost_is_dialled_on_loopback() -> None:
    async with raw_server(answering(OK)) as port, fetcher(f"localhost:{port}") as images:
        assert await images.fetch(f"http://localhost:{port}/a.jpg") == b"bytes"


@pytest.mark.parametrize(
    "address",
    [
        "http://cdn.example/a.jpg",
        "https://cdn.example:8443/a.jpg",
        "https://cdn.example.evil.example/a.jpg",
        "https://evil.example/cdn.example",
        "https://cdn.example./a.jpg",
        "https://user@cdn.example/a.jpg",
        "https://user:word@cdn.example/a.jpg",
        "https://cdn.example\\@evil.example/a.jpg",
        "https://cdn.example:443@evil.example/",
        "https://10.0.0.1/a.jpg",
        "https://8.8.8.8/a.jpg",
        "https://[::ffff:127.0.0.1]/a.jpg",
        "https://2130706433/a.jpg",
        "https://127.1/a.jpg",
        "http://127.0.0.1/a.jpg",
        "http://localhost/a.jpg",
        "ftp://cdn.example/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "//cdn.example/a.jpg",
        "/a.jpg",
        "https://[",
        "https://cdn.example:port/",
        "",
    ],
)
async def test_every_other_address_is_refused_for_good(address: str) -> None:
    async with fetcher("cdn.example", "10.0.0.1", "127.0.0.1:8080") as images:
        with pytest.raises(ImageUnusable) as refused:
            await images.fetch(address)
    assert refused.value.permanent


class Names(AbstractResolver):
    """Resolves every name to the same addresses."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            {"hostname": host, "host": each, "port": port, "family": family, "proto": 0, "flags": 0}
            for each in self.addresses
        ]

    async def close(self) -> None: ...


async def test_a_name_is_dialled_at_its_public_addresses_only() -> None:
    resolver = PublicResolver(["cdn.example"], Names(["10.0.0.1", "8.8.8.8", "127.0.0.1", "::1"]))
    assert [each["host"] for each in await resolver.resolve("cdn.example", 443)] == ["8.8.8.8"]


@pytest.mark.parametrize("host", ["cdn.example", "evil.example"])
async def test_a_name_that_points_inward_or_is_not_listed_resolves_to_nothing(host: str) -> None:
    resolver = PublicResolver(["cdn.example"], Names(["127.0.0.1", "169.254.169.254"]))
    with pytest.raises(OSError, match=host):
        await resolver.resolve(host, 443)


async def test_localhost_never_leaves_the_machine() -> None:
    resolver = PublicResolver(["localhost"], Names(["8.8.8.8", "::1"]))
    assert [each["host"] for each in await resolver.resolve("localhost", 80)] == ["::1"]


async def test_an_address_is_sent_as_it_was_written() -> None:
    """It may be signed: a host that is asked for another spelling of it answers 403 to a picture that is paid for."""
    heads: list[bytes] = []
    signed = "/a%2Fb.jpg?sig=a%2Fb%2Bc%3d%3D&as=attachment%3B%20x%3Ay&~=%7e"
    async with (
        raw_server(answering(redirect(signed), OK, OK, heads=heads)) as port,
        fetcher(f"127.0.0.1:{port}") as images,
    ):
        assert await images.fetch(f"http://127.0.0.1:{port}{signed}") == b"bytes"
        assert await images.fetch(f"http://127.0.0.1:{port}/ä b.jpg") == b"bytes"
    asked = [head.split()[1].decode() for head in heads]
    assert asked == [signed, signed, "/%C3%A4%20b.jpg"]


async def test_follows_redirects_among_listed_hosts() -> None:
    hops = answering(redirect("/b"), redirect("/c"), redirect("/d"), OK)
    async with raw_server(hops) as port, fetcher(f"127.0.0.1:{port}") as images:
        assert await images.fetch(f"http://127.0.0.1:{port}/a") == b"bytes"


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/", "file:///etc/passwd", "http://[", "//["],
)
async def test_checks_every_hop(target: str) -> None:
    assert (await refusal(answering(redirect(target)))).permanent


@pytest.mark.parametrize(
    ("location", "asked"),
    [("d.jpg?e=%2F", "/a%2Fb/d.jpg?e=%2F"), ("?x=%3d", "/a%2Fb/c.jpg?x=%3d"), ("../d%2Fe", "/d%2Fe"), ("/%7e", "/%7e")],
)
async def test_a_relative_redirect_leaves_the_rest_as_it_was_written(location: str, asked: str) -> None:
    heads: list[bytes] = []
    async with (
        raw_server(answering(redirect(location), OK, heads=heads)) as port,
        fetcher(f"127.0.0.1:{port}") as images,
    ):
        assert await images.fetch(f"http://127.0.0.1:{port}/a%2Fb/c.jpg") == b"bytes"
    assert heads[-1].split()[1].decode() == asked


async def test_gives_up_on_a_redirect_loop() -> None:
    refused = await refusal(answering(*[redirect("/again")] * 4))
    assert "redirects" in refused.reason


@pytest.mark.parametrize("status", [b"403 Forbidden", b"404 Not Found", b"500 Oops", b"204 No Content"])
async def test_a_missing_picture_may_be_asked_for_again(status: bytes) -> None:
    refused = await refusal(answering(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"))
    assert not refused.permanent


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", b"not HTTP\r\n\r\n"])
async def test_a_broken_connection_may_be_tried_again(answer: bytes) -> None:
    assert not (await refusal(answering(answer, answer))).permanent


async def test_the_deadline_spans_the_whole_fetch() -> None:
    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\na")
        await reader.read()  # until the client leaves

    assert not (await refusal(drips, timeout_s=0.1)).permanent


@pytest.mark.parametrize("head", [b"Content-Length: 1001", b"Transfer-Encoding: chunked"])
async def test_more_bytes_than_the_cap_are_refused_for_good(head: bytes) -> None:
    body = b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n" if b"chunked" in head else bytes(1001)
    refused = await refusal(answering(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body))
    assert refused.permanent
    assert "too large" in refused.reason


async def test_an_empty_picture_is_refused_for_good() -> None:
    assert (await refusal(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))).permanent
