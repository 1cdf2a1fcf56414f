"""A client that sends bytes as they are, for what no HTTP client would send."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit


class RawAnswer(NamedTuple):
    """`body` is the JSON of the last answer read."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_for_ever(self, piece: bytes, *, pause_s: float = 0) -> None:
        """Until the server has closed."""
        with suppress(ConnectionError):
            while True:
                await self.send(piece)
                await asyncio.sleep(pause_s)

    async def answer(self) -> RawAnswer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return RawAnswer(int(head[0].split()[1]), headers, json.loads(body))

    async def closed(self) -> bytes:
        """What came until the server closed."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class RawClients:
    """Opens connections to one server, and closes what is left of them at the end of its `async with`."""

    def __init__(self, base_url: str) -> None:
        self._address = urlsplit(base_url)
        self._open: list[RawClient] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._open:
            await client.close()

    async def __call__(self, sent: bytes = b"") -> RawClient:
        client = RawClient(*await asyncio.open_connection(self._address.hostname, self._address.port))
        self._open.append(client)
        if sent:
            await client.send(sent)
        return client


def post(key: str, body: bytes = b"", *, length: int | None = None, path: str = "/v1/images/generations") -> bytes:
    """A request, its declared length another than its own if asked."""
    size = len(body) if length is None else length
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode() + body
