"""A line to a server that can be cut without either end being told: what is sent goes nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PIECE_BYTES = 65536


class Line:
    """Carries connections made to `port` on to the server's, both ways; answers only while it is not cut."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """From now on what is sent arrives, and no answer comes back."""
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry_both_ways(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, onward = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            ways = (_carry(reader, onward), _carry(answers, writer, self._whole))
            await asyncio.gather(*ways, return_exceptions=True)  # an end that hung up is none of the line's business
        finally:
            for end in (writer, onward):
                end.close()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _carry(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, whole: asyncio.Event | None = None
) -> None:
    try:
        while data := await source.read(_PIECE_BYTES):
            if whole is not None:
                await whole.wait()
            target.write(data)
            await target.drain()
    finally:  # a reset too is told to the other end: else a server would go on holding what its transaction locked
        target.close()


@asynccontextmanager
async def line_to(server_port: int) -> AsyncIterator[Line]:
    line = Line(server_port)
    server = await asyncio.start_server(line.connected, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        await line.end()
