"""A TCP server whose answers are written byte by byte: for what no HTTP server would do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(handler: Handler) -> AsyncIterator[int]:
    """Serves `handler` on a free port of 127.0.0.1, which it yields."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, as a crashed server or a full middlebox does."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The head of a request, and the body that its Content-Length announces."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


def answering(status: int, body: bytes, *headers: str, length: int | None = None) -> Handler:
    """One answer to one request, then the connection closes. `length`: a Content-Length that lies."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body) if length is None else length}", *headers]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return handle


async def stall(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Accept and never answer, until the client leaves."""
    await reader.read()


def stalling_after(sent: bytes) -> Handler:
    """Answer as far as `sent`, then no further until the client leaves."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sent)
        await reader.read()

    return handle


def dripping(head: bytes) -> Handler:
    """`head`, then white space for ever."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        left = asyncio.ensure_future(reader.read())
        while not left.done():
            writer.write(b" ")
            await asyncio.wait({left}, timeout=0.01)
        await left

    return handle


async def reset_unread(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def reset_after_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    reset(writer)


async def close_after_reading(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await read_request(reader)
