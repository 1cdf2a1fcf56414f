"""An answer leaves in one write.

uvicorn writes the head of an answer and then its body, and uvloop makes a system call of each: the second
costs a tenth of a bare answer, and the client is woken twice. Here a head waits for what is written in the same turn
of the loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.api.connection_limits import GuardedProtocol


class OneWriteProtocol(GuardedProtocol):
    """uvicorn's own protocol within limits, over a transport that holds heads back."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(HeadsWait(transport, self.loop))  # type: ignore[arg-type]


class HeadsWait:
    """A transport that joins a write ending in a blank line, as heads do, with the next; at the latest in the next
    turn of the loop it goes alone."""

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._head = b""
        self._transport.abort()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
