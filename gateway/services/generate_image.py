"""The main job: an image for a caller, from the cache, from a purchase under way, or bought.

cache  --hit-->  journal the use -> answer
flight --join->  wait for the purchase under way -> journal -> answer
buy:   reserve -> send -> settle -> fetch, store, publish -> answer

Around it, what makes a repeat cost nothing: an Idempotency-Key replays what it was used for, and an equal call of a
caller that went without its picture gets that one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Literal, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.domain.answer import StoredAnswer
from gateway.domain.pricing import PriceRule
from gateway.errors import (
    DarkroomError,
    IdempotencyInProgress,
    IdempotencyMismatch,
    ImageRemoved,
    NotCached,
    ProviderTimeout,
    StillGenerating,
    from_record,
)
from gateway.services.answers import AnswerCache, AnswerRenderer
from gateway.services.calls import Call
from gateway.services.flights import Flights
from gateway.services.following import Following
from gateway.services.prices import PriceBook
from gateway.services.publication import Published
from gateway.services.purchases import Purchase, Purchases
from gateway.services.recovery import NeverSent
from gateway.services.usage import UsageRecorder
from gateway.storage import generations, idempotency, image_index, repeats
from gateway.storage.database import Database, now_ms
from gateway.storage.generations import AlreadyStored, AlreadyUnderWay
from gateway.storage.idempotency import AlreadyClaimed, Claim
from gateway.storage.repeats import AlreadyLost, AlreadyYours
from gateway.storage.response_cache import HeldAnswer

_GRACE_S = 60.0
"""How much longer than the provider may take a caller waits: for its turn at a key, and for the picture's bytes."""

T = TypeVar("T")


class Delivery(msgspec.Struct, frozen=True):
    """What a call gets. Money in micro-dollars; `age_s` is None unless it is a hit; `held` is its place in memory.

    `stored`: the answer is in the cache now.
    """

    answer: StoredAnswer
    body: bytes
    outcome: Literal["hit", "joined", "repeated", "bought"]
    cost_micro_usd: int
    saved_micro_usd: int
    stored: bool = False
    age_s: int | None = None
    held: HeldAnswer | None = None


class ImageGenerator:
    def __init__(
        self,
        database: Database,
        *,
        answers: AnswerCache,
        renderer: AnswerRenderer,
        flights: Flights,
        purchases: Purchases,
        following: Following,
        usage: UsageRecorder,
        prices: PriceBook,
    ) -> None:
        self._database = database
        self._answers = answers
        self._renderer = renderer
        self._flights = flights
        self._purchases = purchases
        self._following = following
        self._usage = usage
        self._prices = prices

    def from_memory(self, call: Call) -> Delivery | None:
        """A hit held in memory, without awaiting; None when there is none, or its picture has to be read."""
        held = self._in_memory(call)
        return None if held is None else self._hit(call, held, self._held_body(call, held))

    def is_held(self, call: Call) -> bool:
        """Whether `from_memory` has an answer; looking leaves no trace."""
        return self._in_memory(call) is not None

    def _in_memory(self, call: Call) -> HeldAnswer | None:
        _, request, plan = call.known
        if not plan.readable or request.response_format != "url":
            return None
        held = self._answers.held(call.fingerprint)
        return held if held is not None and _fresh(held, call) else None

    async def __call__(self, call: Call) -> Delivery:
        """Raises DarkroomError; StillGenerating when the call may wait no longer, and `call.generation_id` goes on.

        Every call whose caller is known leaves one row in the usage log.
        """
        try:
            if call.claim is not None:
                return await self._once(call, call.claim)
            return await self._deliver(call)
        except _Recorded as recorded:
            raise recorded.error from recorded.error.__cause__
        except StillGenerating as error:
            await self._promise(call, error)
            raise
        except DarkroomError as error:
            self._usage.refused(call, error)
            raise

    def left(self, call: Call) -> None:
        """The connection closed before the answer was sent: the caller's equal repeat gets what it waits for."""
        call.left = True
        self._give_up(call)

    async def _once(self, call: Call, claim: Claim) -> Delivery:
        """What this Idempotency-Key was used for; else what it is used for now."""
        while True:
            found = await self._database.read(lambda conn: idempotency.find(conn, claim, now_ms=now_ms(conn)))
            try:
                if found is None:
                    return await self._deliver(call)
                request_hash, generation_id = found
                if request_hash != claim.request_hash:
                    raise IdempotencyMismatch(
                        "This Idempotency-Key came with another request before; a new request needs a new key.",
                        param="Idempotency-Key",
                        should_retry=False,
                    )
                return await self._repeated(call, generation_id)
            except (AlreadyClaimed, NeverSent):  # used meanwhile; or free again: nothing was bought with it
                continue

    async def _deliver(self, call: Call) -> Delivery:
        _, _, plan = call.known
        if plan.readable:
            held = await self._answers.find(call.fingerprint)
            if held is not None and _fresh(held, call):
                return await self._hit_async(call, held)
        if plan.only_if_cached:
            raise NotCached("There is no such picture in the cache (only-if-cached).", should_retry=False, charged="no")
        while True:
            try:
                return await self._buy(call, storable=plan.storable)
            except NeverSent:  # what was waited for came to nothing, and cost nothing: look again
                continue

    async def _buy(self, call: Call, *, storable: bool) -> Delivery:
        """Raises NeverSent when the way is free again."""
        try:
            if storable:
                return await self._fly(call)
            return await self._bought(call, await self._purchases.start(call))
        except AlreadyLost as lost:
            found = lost.generation_id
        except AlreadyYours as yours:
            found = yours.generation_id
            if not await self._purchases.take(found):
                raise NeverSent(found) from None  # an equal call was faster, and has it
            call.owns = True
        return await self._repeated(call, found)

    async def _fly(self, call: Call) -> Delivery:
        """Join the flight of this fingerprint, or be the one who buys."""
        async with self._flights.board(call.fingerprint) as flight:
            async with flight.turn:  # free as soon as somebody has reserved, or found who has
                joined = flight.generation_id
                stored: AlreadyStored | None = None
                if joined is None:
                    try:
                        purchase = await self._purchases.start(call)
                    except AlreadyStored as found:
                        stored = found
                    except AlreadyUnderWay as found:
                        joined = flight.elsewhere = found.generation_id
                    else:
                        self._flights.depart(call.fingerprint, flight, purchase)
            if stored is not None:
                return await self._hit_async(call, self._answers.keep(stored.entry))
            if joined is None:
                return await self._bought(call, purchase)
            try:
                return await self._joined(call, joined)
            finally:
                flight.land(joined)

    async def _bought(self, call: Call, purchase: Purchase) -> Delivery:
        """The buyer's row is the purchase's to write, whatever its caller is told."""
        call.generation_id, call.owns = purchase.id, True
        if call.left:
            self._give_up(call)
        try:
            published = await self._patiently(call, _outcome(purchase), payer_id=purchase.intent.key_id)
            body = await self._body(call, published.answer)
        except DarkroomError as error:
            raise _Recorded(error) from error
        cost = published.answer.cost_micro_usd
        return Delivery(published.answer, body, "bought", cost, 0, stored=published.entry is not None)

    async def _joined(self, call: Call, generation_id: str) -> Delivery:
        """An equal purchase is under way, of this process, of another replica, or of nobody any more."""
        await self._claim(call, generation_id)
        answer = await self._wait(call, generation_id)
        return await self._share(call, answer, "joined")

    async def _repeated(self, call: Call, generation_id: str) -> Delivery:
        """What the caller has asked for, and paid for, before."""
        try:
            answer = await self._wait(call, generation_id)
        except _TooLong as error:
            if call.claim is None:
                raise
            raise IdempotencyInProgress(
                "The first call with this Idempotency-Key is still under way.",
                param="Idempotency-Key",
                should_retry=False,
                retry_after_s=5,
            ) from error
        if await self._database.read(lambda conn: image_index.is_removed(conn, generation_id)):
            raise ImageRemoved(
                "This call was answered before, and its picture was removed since. Under the same Idempotency-Key it "
                "is not bought again; with a new one, or none, it is.",
                charged="no",
            )
        return await self._share(call, answer, "repeated")

    async def _wait(self, call: Call, generation_id: str) -> StoredAnswer:
        """The outcome of a generation, whoever makes it. Raises NeverSent, and the refusal that it ended with."""
        call.generation_id = generation_id
        if call.left:
            self._give_up(call)
        purchase = self._purchases.under_way(generation_id)
        if purchase is not None:
            published = await self._patiently(call, _outcome(purchase), payer_id=purchase.intent.key_id)
            return published.answer
        state = await self._database.read(lambda conn: generations.state_of(conn, generation_id))
        if state is None:
            raise NeverSent(generation_id)
        if state.answer is not None:
            return state.answer
        if state.under_way:
            return await self._patiently(call, self._following(generation_id), payer_id=state.key_id)
        raise from_record(state.error or {"code": "provider_error", "message": "It ended without a picture."})

    async def _patiently(self, call: Call, outcome: Awaitable[T], *, payer_id: str) -> T:
        """Wait as long as the call may. Raises StillGenerating, or ProviderTimeout after the longest that any may; the
        purchase goes on, and the caller's equal repeat gets it. `payer_id`: the key that will be charged, if any is.
        """
        caller, _, _ = call.known
        longest_s = self._purchases.timeout_s(call.provider) + _GRACE_S
        patience_s = None if call.wait_s is None else max(0.0, call.wait_s - call.latency_us / 1e6)
        own = patience_s is not None and patience_s < longest_s
        try:
            async with asyncio.timeout(patience_s if own else longest_s):
                return await outcome
        except TimeoutError:
            if not call.respond_async:
                self._give_up(call)
            if own:
                raise StillGenerating(
                    "The picture is still being made. Send the same call again: it joins this purchase.",
                    retry_after_s=1,
                    charged="unknown" if payer_id == caller.key_id else "no",
                ) from None
            raise _TooLong(
                "The picture is taking too long. The purchase goes on; ask again in a while.",
                charged="unknown",
                should_retry=False,
            ) from None

    def _give_up(self, call: Call) -> None:
        if call.owns and call.generation_id is not None and call.claim is None:
            self._purchases.abandon(call.generation_id)

    async def _claim(self, call: Call, generation_id: str) -> None:
        """An Idempotency-Key is used for what is not bought too. Raises AlreadyClaimed."""
        claim = call.claim
        if claim is None:
            return

        def work(conn: sa.Connection) -> None:
            at_ms = now_ms(conn)
            if idempotency.find(conn, claim, now_ms=at_ms) != (claim.request_hash, generation_id):
                idempotency.make(conn, claim, generation_id, now_ms=at_ms)

        await self._database.write(work)

    async def _promise(self, call: Call, error: StillGenerating) -> None:
        """A caller that does not wait, and did not buy: its row, and its right to the picture."""
        if not call.respond_async or call.generation_id is None:
            self._usage.refused(call, error)
            return
        caller, generation_id = call.known[0], call.generation_id
        await self._database.write(lambda conn: repeats.share(conn, generation_id, caller.user_id))
        self._usage.served(call.usage_row("joined", status=202, generation_id=generation_id, provider=call.provider))

    async def _share(self, call: Call, answer: StoredAnswer, outcome: Literal["joined", "repeated"]) -> Delivery:
        body = await self._body(call, answer)
        saved = answer.cost_micro_usd if outcome == "joined" else 0
        delivery = Delivery(answer, body, outcome, 0, saved, stored=True)
        self._record(call, delivery)
        return delivery

    async def _hit_async(self, call: Call, held: HeldAnswer) -> Delivery:
        _, request, _ = call.known
        await self._claim(call, held.entry.answer.generation_id)
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


class _TooLong(ProviderTimeout):
    """Nobody waits longer than this; the generation itself may still come to its picture."""


class _Recorded(Exception):
    """Carries an error whose usage row is written already past the place that writes rows."""

    def __init__(self, error: DarkroomError) -> None:
        super().__init__(error.message)
        self.error = error


def _fresh(held: HeldAnswer, call: Call) -> bool:
    _, _, plan = call.known
    entry = held.entry
    return plan.accepts(created_ms=entry.created_ms, expires_ms=entry.expires_ms, now_ms=call.at_ms)


async def _outcome(purchase: Purchase) -> Published:
    """For one of those who wait: leaving does not end the purchase."""
    return await asyncio.shield(purchase.outcome)
