"""What the connections of one server share: the limits, a coarse clock, and one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Protocol

from gateway.api.client_limit import ClientCounts

_LONGEST_PERIOD_S = 1.0


class Guarded(Protocol):
    def check_time(self, now: float) -> None: ...


class ConnectionGuard:
    """`now` is the loop's time at the last round, at most a second ago: exact enough for limits of seconds, and free.

    A timer for each request would cost every hit; here a round looks at all connections. It stops with the last one.
    `draining`: every answer from now on ends its connection.
    """

    def __init__(
        self, *, head_timeout_s: float, body_timeout_s: float, max_message_bytes: int, clients: ClientCounts | None
    ) -> None:
        self.head_timeout_s = head_timeout_s
        self.body_timeout_s = body_timeout_s
        self.max_message_bytes = max_message_bytes
        self.clients = clients
        self.draining = False
        self.now = 0.0
        self._period_s = min(_LONGEST_PERIOD_S, head_timeout_s / 4, body_timeout_s / 4)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Collection[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Begin the rounds, if they are not on already. `connections` is the server's own set of them."""
        if self._timer is None:
            self.now = loop.time()
            self._timer = loop.call_later(self._period_s, self._round, connections, loop)

    def _round(self, connections: Collection[Guarded], loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self.now = loop.time()
        for connection in list(connections):
            connection.check_time(self.now)
        if connections:
            self.watch(connections, loop)
