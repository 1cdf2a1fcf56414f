"""Serve the demo provider: inside a running event loop, or as a process of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import uvicorn

from gateway.demo.asgi import Receive, Scope, Send


class Closable(Protocol):
    """An ASGI app that lets waiting calls go when `closing` is set."""

    closing: asyncio.Event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class _QuietServer(uvicorn.Server):
    """Leaves the signal handlers of the process alone."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)


@asynccontextmanager
async def running(app: Closable, *, port: int = 0) -> AsyncIterator[str]:
    """Serve `app` in this event loop; yields its base URL."""
    listener = _listen(port)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = _QuietServer(_config(app))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield base_url
    finally:
        app.closing.set()
        server.should_exit = True
        await serving


def serve(app: Closable, *, port: int) -> None:
    """Serve `app` until a signal ends the process; says `ready URL` once it listens."""
    listener = _listen(port)
    print(f"ready http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201
    uvicorn.Server(_config(app)).run([listener])


def _listen(port: int) -> socket.socket:
    """Listening already, so that whoever reads the port may connect at once."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    return listener


def _config(app: Closable) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
    )
