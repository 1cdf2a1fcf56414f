"""How much one client may have open at a time: connections, or behind trusted proxies requests under way."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.error_response import error_response
from gateway.domain.client_address import address_group
from gateway.errors import DarkroomError


class TooManyConnections(DarkroomError):
    code = "too_many_connections"
    status = 429
    type = "rate_limit_error"


class ClientCounts:
    """What each client has open. `trusted`: addresses and networks that are not counted, since they speak for others.

    Used on the event loop only.
    """

    def __init__(self, most: int, *, trusted: Sequence[str]) -> None:
        self._most = most
        self._trusted = [ipaddress.ip_network(text, strict=False) for text in trusted]
        self._open: Counter[str] = Counter()
        self.group = lru_cache(maxsize=4096)(self._group)

    def _group(self, host: str) -> str | None:
        """Under which name a host counts; None when it is not counted."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return address_group(host)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        trusted = any((mapped or address) in network for network in self._trusted)
        return None if trusted else address_group(host)

    def enter(self, group: str) -> None:
        """Count one more. Raises TooManyConnections, and then it is not counted."""
        if self._open[group] >= self._most:
            raise TooManyConnections(
                f"Your address has {self._most} calls or connections open already "
                "(server.max_connections_per_address). Wait for one to end.",
                retry_after_s=1,
            )
        self._open[group] += 1

    def leave(self, group: str) -> None:
        self._open[group] -= 1
        if not self._open[group]:
            del self._open[group]


class RequestsPerClient:
    """For what comes through trusted proxies: a proxy keeps connections of its own, so requests under way are counted.

    `scope["client"]` must be the forwarded address already: the server sees to that.
    """

    def __init__(self, app: ASGIApp, counts: ClientCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        group = self._counts.group(scope["client"][0]) if scope.get("client") else None
        if scope["type"] != "http" or group is None:
            await self._app(scope, receive, send)
            return
        try:
            self._counts.enter(group)
        except TooManyConnections as refusal:
            await error_response(refusal, path=scope["path"])(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._counts.leave(group)
