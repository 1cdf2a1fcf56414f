"""The server around the application: its protocol with limits, and its way out.

At the first signal `/readyz` says 503, and for `server.drain_delay_s` all goes on as before, so that load balancers can
look elsewhere. Then the process buys no more, but goes on listening and answering: hits, joins. It stops when the
purchases under way are over, or `server.drain_s` is. A second signal ends it where it is.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

from gateway.api.client_limit import ClientCounts
from gateway.api.connection_guard import ConnectionGuard
from gateway.api.hit_protocol import HitProtocol
from gateway.api.memory_hits import MemoryHits, TracedHits
from gateway.api.middleware import MAX_EXPORT_BYTES
from gateway.config import Settings
from gateway.config_sections import ServerSettings
from gateway.resources import Resources

_LAST_ANSWERS_S = 10
"""How long answers under way may take to leave once nothing is bought any more."""


def server_protocol(settings: ServerSettings, resources: Resources | None = None) -> type[HitProtocol]:
    """The protocol class of one server, with these limits. With `resources` it answers hits by itself."""
    most = settings.max_connections_per_address
    guard = ConnectionGuard(
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        # a body may come in chunks of one byte, with six bytes around each
        max_message_bytes=8 * max(settings.max_body_bytes, 65_536) + MAX_EXPORT_BYTES,
        clients=None if most is None else ClientCounts(most, trusted=settings.trusted_proxies),
    )
    capped_by_header = most is not None and bool(settings.trusted_proxies)  # only the application reads that header
    hits = None
    if resources is not None and not capped_by_header:
        kind = TracedHits if resources.tracing.is_on else MemoryHits
        hits = kind(resources, cors=bool(settings.cors_origins))
    return type("ServerProtocol", (HitProtocol,), {"guard": guard, "hits": hits})


def server_config(
    app: ASGIApp, settings: Settings, resources: Resources | None, *, lifespan: Literal["on", "off"] = "off"
) -> uvicorn.Config:
    """Without `resources` every call goes through the application's routes, which are complete by themselves."""
    server = settings.server
    return uvicorn.Config(
        app,
        host=server.host,
        port=server.port,
        http=server_protocol(server, resources),
        lifespan=lifespan,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=server.keep_alive_s,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=server.trusted_proxies,
    )


def management_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """As for callers, at the management port; no client is counted there."""
    config = server_config(app, settings, None)
    limits = settings.server.model_copy(update={"max_connections_per_address": None})
    config.host, config.port = settings.management.host, settings.management.port or 0
    config.http = server_protocol(limits)
    return config


@asynccontextmanager
async def management_served(app: ASGIApp, settings: Settings, listener: socket.socket) -> AsyncIterator[None]:
    """Answer at the management port while the block lasts, so while the gateway drains too."""
    server = _ManagementServer(management_config(app, settings))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _ManagementServer(uvicorn.Server):
    """Ends when it is told to; signals are the gateway's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GatewayServer(uvicorn.Server):
    """uvicorn closes its listeners at the first signal, and raises it once more when it has stopped. Here the process
    drains first, and ends by itself.
    """

    def __init__(self, config: uvicorn.Config, resources: Resources, *, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._resources = resources
        self._on_start = on_start
        self._leaving = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def main_loop(self) -> None:
        leaving = asyncio.create_task(self._leave())
        try:
            await super().main_loop()
        finally:
            leaving.cancel()

    async def _leave(self) -> None:
        """Wait for the signal; then until what is under way is done."""
        await self._leaving.wait()
        try:
            await self._finish()
        finally:  # whatever went wrong, the process leaves
            self.should_exit = True

    async def _finish(self) -> None:
        """Every answer from here on ends its connection. Those who waited have theirs before the listeners close."""
        protocol: type[HitProtocol] = self.config.http_protocol_class  # type: ignore[assignment]
        protocol.guard.draining = True
        for connection in list(self.server_state.connections):
            connection.end_after_answer()  # type: ignore[union-attr]
        purchases, settings = self._resources.purchases, self._resources.settings.server
        purchases.leaving = True
        await asyncio.sleep(settings.drain_delay_s)
        await purchases.drain(settings.drain_s)
        await purchases.abort()
        if answers := set(self.server_state.tasks):
            await asyncio.wait(answers, timeout=_LAST_ANSWERS_S)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        if self._leaving.is_set():
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._leaving.set()
