"""The main job: an image for a caller, from the cache, from a purchase under way, or bought.

cache  --hit-->  journal the use -> answer
flight --join->  wait for the purchase under way -> journal -> answer
buy:   reserve -> send -> settle -> fetch, store, publish -> answer
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec

from gateway.domain.answer import StoredAnswer
from gateway.domain.pricing import PriceRule
from gateway.errors import DarkroomError, NotCached, ProviderTimeout
from gateway.services.answers import AnswerCache, AnswerRenderer
from gateway.services.calls import Call
from gateway.services.flights import Flights
from gateway.services.prices import PriceBook
from gateway.services.publication import Published
from gateway.services.purchases import Purchase, Purchases
from gateway.services.recovery import NeverSent, Recovery
from gateway.services.usage import UsageRecorder
from gateway.storage.generations import AlreadyStored, AlreadyUnderWay
from gateway.storage.response_cache import HeldAnswer

_GRACE_S = 60.0
"""How much longer than the provider may take a caller waits: for its turn at a key, and for the picture's bytes."""


class Delivery(msgspec.Struct, frozen=True):
    """What a call gets. Money in micro-dollars; `age_s` is None unless it is a hit; `held` is its place in memory.

    `stored`: the answer is in the cache now.
    """

    answer: StoredAnswer
    body: bytes
    outcome: Literal["hit", "joined", "bought"]
    cost_micro_usd: int
    saved_micro_usd: int
    stored: bool = False
    age_s: int | None = None
    held: HeldAnswer | None = None


class ImageGenerator:
    def __init__(
        self,
        *,
        answers: AnswerCache,
        renderer: AnswerRenderer,
        flights: Flights,
        purchases: Purchases,
        recovery: Recovery,
        usage: UsageRecorder,
        prices: PriceBook,
    ) -> None:
        self._answers = answers
        self._renderer = renderer
        self._flights = flights
        self._purchases = purchases
        self._recovery = recovery
        self._usage = usage
        self._prices = prices

    def from_memory(self, call: Call) -> Delivery | None:
        """A hit held in memory, without awaiting; None when there is none, or its picture has to be read."""
        _, request, plan = call.known
        if not plan.readable or request.response_format != "url":
            return None
        held = self._answers.held(call.fingerprint)
        if held is None or not _fresh(held, call):
            return None
        return self._hit(call, held, self._held_body(call, held))

    async def __call__(self, call: Call) -> Delivery:
        """Raises DarkroomError. Every call whose caller is known leaves one row in the usage log."""
        try:
            return await self._deliver(call)
        except _Recorded as recorded:
            raise recorded.error from recorded.error.__cause__
        except DarkroomError as error:
            self._usage.refused(call, error)
            raise

    async def _deliver(self, call: Call) -> Delivery:
        _, _, plan = call.known
        if plan.readable:
            held = await self._answers.find(call.fingerprint)
            if held is not None and _fresh(held, call):
                return await self._hit_async(call, held)
        if plan.only_if_cached:
            raise NotCached("There is no such picture in the cache (only-if-cached).", should_retry=False, charged="no")
        if plan.storable:
            return await self._fly(call)
        purchase = await self._purchases.start(call)
        return await self._bought(call, purchase)

    async def _fly(self, call: Call) -> Delivery:
        """Join the flight of this fingerprint, or be the one who buys."""
        async with self._flights.board(call.fingerprint) as flight:
            async with flight.turn:  # free as soon as somebody has reserved
                joined = flight.purchase
                elsewhere: AlreadyStored | AlreadyUnderWay | None = None
                if joined is None:
                    try:
                        purchase = await self._purchases.start(call)
                    except (AlreadyStored, AlreadyUnderWay) as found:
                        elsewhere = found
                    else:
                        self._flights.depart(call.fingerprint, flight, purchase)
            if joined is not None:
                return await self._joined(call, joined)
            if elsewhere is None:
                return await self._bought(call, purchase)
            if isinstance(elsewhere, AlreadyStored):
                return await self._hit_async(call, self._answers.keep(elsewhere.entry))
            return await self._follow(call, elsewhere.generation_id)

    async def _bought(self, call: Call, purchase: Purchase) -> Delivery:
        try:
            published = await _wait(purchase)
        except DarkroomError as error:
            if purchase.row_written:
                raise _Recorded(error) from error
            raise
        body = await self._body(call, published.answer)
        cost = published.answer.cost_micro_usd
        return Delivery(published.answer, body, "bought", cost, 0, stored=published.entry is not None)

    async def _joined(self, call: Call, purchase: Purchase) -> Delivery:
        published = await _wait(purchase)
        return await self._share(call, published.answer, stored=published.entry is not None)

    async def _follow(self, call: Call, generation_id: str) -> Delivery:
        """An equal generation is under way that this process does not work on: an orphan, or another replica's."""
        try:
            answer = await self._recovery.follow(generation_id, call.fingerprint, timeout_s=_GRACE_S)
        except NeverSent:
            return await self._fly(call)
        return await self._share(call, answer, stored=True)

    async def _share(self, call: Call, answer: StoredAnswer, *, stored: bool) -> Delivery:
        body = await self._body(call, answer)
        delivery = Delivery(answer, body, "joined", 0, answer.cost_micro_usd, stored=stored)
        self._record(call, delivery)
        return delivery

    async def _hit_async(self, call: Call, held: HeldAnswer) -> Delivery:
        _, request, _ = call.known
        if request.response_format == "url":
            return self._hit(call, held, self._held_body(call, held))
        return self._hit(call, held, await self._body(call, held.entry.answer))

    def _hit(self, call: Call, held: HeldAnswer, body: bytes) -> Delivery:
        entry = held.entry
        age_s = max(0, call.at_ms - entry.created_ms) // 1000
        saved = entry.answer.cost_micro_usd
        delivery = Delivery(entry.answer, body, "hit", 0, saved, stored=True, age_s=age_s, held=held)
        self._record(call, delivery)
        return delivery

    def _held_body(self, call: Call, held: HeldAnswer) -> bytes:
        if held.body is not None:
            return held.body
        _, request, _ = call.known
        body = self._renderer.with_urls(held.entry.answer, prompt=request.prompt, now_s=call.at_ms // 1000)
        if self._renderer.reusable:
            self._answers.keep_body(held, body)
        return body

    async def _body(self, call: Call, answer: StoredAnswer) -> bytes:
        _, request, _ = call.known
        return await self._renderer.body(answer, request.response_format, prompt=request.prompt, now_s=int(time.time()))

    def _record(self, call: Call, delivery: Delivery) -> None:
        answer = delivery.answer
        row = call.usage_row(
            delivery.outcome,
            images=len(answer.images),
            saved_micro_usd=delivery.saved_micro_usd,
            generation_id=answer.generation_id,
            provider=answer.provider,
        )
        self._usage.served(row)

    def quote(self, call: Call) -> tuple[PriceRule, int]:
        """The rule a purchase would use now, and its estimate in micro-dollars."""
        _, request, _ = call.known
        rule = self._prices.rule(request.model, call.provider)
        return rule, request.cost(rule)

    async def would_hit(self, call: Call) -> bool:
        _, _, plan = call.known
        held = await self._answers.find(call.fingerprint) if plan.readable else None
        return held is not None and _fresh(held, call)


class _Recorded(Exception):
    """Carries an error whose usage row is written already past the place that writes rows."""

    def __init__(self, error: DarkroomError) -> None:
        super().__init__(error.message)
        self.error = error


def _fresh(held: HeldAnswer, call: Call) -> bool:
    _, _, plan = call.known
    entry = held.entry
    return plan.accepts(created_ms=entry.created_ms, expires_ms=entry.expires_ms, now_ms=call.at_ms)


async def _wait(purchase: Purchase) -> Published:
    """The outcome of a purchase, for one of those who wait for it. Leaving does not end the purchase."""
    try:
        async with asyncio.timeout(purchase.timeout_s + _GRACE_S):
            return await asyncio.shield(purchase.outcome)
    except TimeoutError:
        raise ProviderTimeout(
            "The picture is taking too long. The purchase goes on; ask again in a while.",
            charged="unknown",
            should_retry=False,
        ) from None
