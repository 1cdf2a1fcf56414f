"""A load balancer as simple as they come: looks at `/readyz`, and gives each call to the next server that is ready.

It passes a call on only where nothing was sent: a refused connection. Whatever a server answers, the caller gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from tests.support.http_client import open_client

LOOKS_EVERY_S = 0.1


class LoadBalancer:
    def __init__(self, servers: Sequence[str], http: httpx.AsyncClient) -> None:
        self._servers = servers
        self._http = http
        self._ready: list[str] = []
        self._turn = 0
        self.base_url = ""

    async def watch(self) -> None:
        while True:
            found = await asyncio.gather(*(self._is_ready(server) for server in self._servers))
            self._ready = [server for server, ready in zip(self._servers, found, strict=True) if ready]
            await asyncio.sleep(LOOKS_EVERY_S)

    async def _is_ready(self, server: str) -> bool:
        try:
            return (await self._http.get(f"{server}/readyz", headers={"connection": "close"})).is_success
        except httpx.TransportError:
            return False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await reader.readexactly(int({name.lower(): v for name, v in headers.items()}.get("content-length", 0)))
        answer = await self._pass_on(method, path, headers, body)
        kept = [(name, value) for name, value in answer.headers.items() if name not in {"connection", "content-length"}]
        said = "".join(f"{name}: {value}\r\n" for name, value in [*kept, ("content-length", str(len(answer.content)))])
        writer.write(f"HTTP/1.1 {answer.status_code} X\r\n{said}\r\n".encode("latin-1") + answer.content)
        await writer.drain()

    async def _pass_on(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        sent = {**headers, "connection": "close"}
        for _ in range(len(self._servers)):
            server = self._next()
            try:
                return await self._http.request(method, f"{server}{path}", headers=sent, content=body)
            except httpx.ConnectError:
                continue
        return httpx.Response(502)

    def _next(self) -> str:
        self._turn += 1
        servers = self._ready or self._servers
        return servers[self._turn % len(servers)]


@asynccontextmanager
async def load_balanced(servers: Sequence[str]) -> AsyncIterator[str]:
    """Its address."""
    async with open_client(connect_timeout_s=30) as http:
        balancer = LoadBalancer(servers, http)
        server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
        watching = asyncio.create_task(balancer.watch())
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            watching.cancel()
            server.close()
