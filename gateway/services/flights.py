"""Flights: the purchase under way that equal calls of this process join.

Calls take turns to reserve, in the order they came, until one succeeds: a refused reservation concerns its caller
alone, and the next one reserves under its own limits. From then on all wait for the one outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.services.purchases import Purchase


class Flight:
    """`turn` is held by whoever tries to reserve. `purchase` is set once somebody has; `elsewhere`: the generation that
    another process was found to make, so that those behind need not reserve to find out.
    """

    __slots__ = ("elsewhere", "passengers", "purchase", "turn")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.purchase: Purchase | None = None
        self.elsewhere: str | None = None
        self.passengers = 0

    @property
    def generation_id(self) -> str | None:
        """What those who board now wait for."""
        return self.elsewhere if self.purchase is None else self.purchase.id

    def land(self, generation_id: str) -> None:
        """The generation is over, as far as one of those who waited knows: the next one looks for itself."""
        if self.elsewhere == generation_id:
            self.elsewhere = None


class Flights:
    """By fingerprint, which holds mode and cache scope."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    @asynccontextmanager
    async def board(self, fingerprint: str) -> AsyncIterator[Flight]:
        """The flight of a fingerprint, a new one if there is none. It ends with its purchase, or with nobody aboard."""
        flight = self._flights.get(fingerprint)
        if flight is None:
            flight = self._flights[fingerprint] = Flight()
        flight.passengers += 1
        try:
            yield flight
        finally:
            flight.passengers -= 1
            if flight.purchase is None and flight.passengers == 0:
                self._forget(fingerprint, flight)

    def depart(self, fingerprint: str, flight: Flight, purchase: Purchase) -> None:
        """A purchase was reserved: those aboard, and all who board until it is over, share its outcome."""
        flight.purchase = purchase
        purchase.outcome.add_done_callback(lambda _: self._forget(fingerprint, flight))

    def _forget(self, fingerprint: str, flight: Flight) -> None:
        if self._flights.get(fingerprint) is flight:
            del self._flights[fingerprint]
