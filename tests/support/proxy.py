"""A TCP proxy that can lose things, between the gateway and a server it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from tests.support.ports import free_port

Mood = Literal["pass", "lose_answers", "swallow"]
"""swallow: a black hole, connections stand and nothing comes back. lose_answers: what is asked arrives, its answer does
not, and the connection breaks."""


class Proxy:
    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = free_port()
        self.mood: Mood = "pass"
        self.lost = 0
        self.asked = 0
        """Pieces that came from the gateway."""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        """No connection stands, and none can be made, until `open`."""
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def turn_to(self, target_port: int) -> None:
        """Break every connection; those made from now on lead elsewhere."""
        self._target_port = target_port
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if self.mood == "swallow":
                await asyncio.Event().wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                await self._carry(reader, writer, far_reader, far_writer)
            finally:
                far_writer.close()
        except (OSError, asyncio.CancelledError):  # broken by the test, or by one of the two ends
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        there = asyncio.create_task(self._asks(reader, far_writer))
        back = asyncio.create_task(self._answers(far_reader, writer))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    async def _asks(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.asked += 1
            if self.mood == "swallow":
                await asyncio.Event().wait()
            far.write(data)
            await far.drain()

    async def _answers(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await far.read(65_536):
            if self.mood == "swallow":
                await asyncio.Event().wait()
            if self.mood == "lose_answers":
                self.lost += 1
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(port)
    await proxy.open()
    try:
        yield proxy
    finally:
        with suppress(Exception):
            await proxy.close()
