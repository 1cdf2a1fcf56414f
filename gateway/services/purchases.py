"""Purchases under way: each runs in a task of its own, from the reservation to the published picture.

The caller may leave; the picture is finished, kept and accounted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from gateway.domain.ids import new_id
from gateway.domain.image_request import ImageRequest
from gateway.domain.limits import Metric
from gateway.errors import DarkroomError, Draining, LedgerUnavailable, reason_of
from gateway.services.answers import AnswerCache
from gateway.services.buying import Buyer, Commission, Vendor
from gateway.services.calls import Call
from gateway.services.charges import expected_of
from gateway.services.prices import PriceBook
from gateway.services.publication import Published
from gateway.storage import generations, orphans, repeats
from gateway.storage.database import Database
from gateway.storage.generations import Intent
from gateway.storage.images import ImageStore
from gateway.storage.response_cache import Entry
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import RESERVATION, Tracing

_log = structlog.get_logger(__name__)
KeepPrompt = Callable[[ImageRequest], dict[str, Any] | None]


@dataclass(eq=False, slots=True)
class Purchase:
    """One generation under way in this process. `reserved` and `outcome` are always resolved in the end."""

    intent: Intent
    reserved: asyncio.Future[None]
    outcome: asyncio.Future[Published]

    @property
    def id(self) -> str:
        return self.intent.id

    def refuse(self, error: Exception) -> None:
        """Tell those who wait, unless they know already."""
        _resolve(self.outcome, error)


class Purchases:
    """Starts purchases and keeps track of those under way."""

    def __init__(
        self,
        database: Database,
        images: ImageStore,
        buyer: Buyer,
        answers: AnswerCache,
        vendors: Mapping[str, Vendor],
        prices: PriceBook,
        metrics: Metrics,
        tracing: Tracing,
        *,
        process_id: str,
        keep_prompt: KeepPrompt,
        tell: Callable[[str], None],
    ) -> None:
        """`keep_prompt` says what SQL may keep of a request. `tell` is called with a generation that is over here."""
        self._database = database
        self._images = images
        self._buyer = buyer
        self._answers = answers
        self._vendors = vendors
        self._prices = prices
        self._metrics = metrics
        self._tracing = tracing
        self._process_id = process_id
        self._keep_prompt = keep_prompt
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()
        self._abandoning: set[asyncio.Task[None]] = set()
        self.active: dict[str, Purchase] = {}
        self.leaving = False
        """The process will end soon: calls should go elsewhere, but are served as ever until it drains."""
        self.draining = False

    async def start(self, call: Call) -> Purchase:
        """Reserve, and set the purchase going.

        Raises LimitExceeded (the caller's own refusal), AlreadyClaimed, AlreadyYours, AlreadyLost, AlreadyUnderWay,
        AlreadyStored, or what makes buying impossible now: ProviderUnavailable, StorageFailed, LedgerUnavailable,
        Draining. Nothing is held then.
        """
        self.check_open()
        vendor = self._vendors[call.provider]
        vendor.pool.require_any()
        self._database.check()
        await self._images.check()
        if self._abandoning:  # one of them may be what this call repeats
            await asyncio.wait(self._abandoning)
        self.check_open()  # again: what begins after `drain` looked would not be waited for
        loop = asyncio.get_running_loop()
        purchase = Purchase(self._intent(call), loop.create_future(), loop.create_future())
        purchase.outcome.add_done_callback(_retrieve)  # a purchase whose caller left has nobody to read its error
        purchase.reserved.add_done_callback(_retrieve)
        task = asyncio.create_task(self._run(purchase, call, vendor), name=f"purchase {purchase.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(purchase.reserved)
        return purchase

    def check_open(self) -> None:
        """Raises Draining once the process is on its way out."""
        if self.draining:
            raise Draining("The gateway is shutting down; send the call again.", retry_after_s=1, charged="no")

    def timeout_s(self, provider: str) -> float:
        """The longest that a purchase may take at a provider."""
        return self._vendors[provider].timeout_s

    def under_way(self, generation_id: str) -> Purchase | None:
        """The purchase, if this process makes it."""
        return self.active.get(generation_id)

    async def take(self, generation_id: str) -> bool:
        """Take over an abandoned generation for the repeat of its caller. False: an equal call was faster."""
        return await self._database.write(lambda conn: repeats.take(conn, generation_id))

    def abandon(self, generation_id: str) -> None:
        """Its caller goes without it, and may come back. Whoever starts a purchase waits until this is written."""
        task = asyncio.create_task(self._abandon(generation_id), name=f"abandon {generation_id}")
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)

    async def _abandon(self, generation_id: str) -> None:
        try:
            await self._database.write(lambda conn: repeats.abandon(conn, generation_id))
        except LedgerUnavailable as exc:
            _log.warning("abandoned_not_kept", generation_id=generation_id, reason=reason_of(exc))

    async def drain(self, timeout_s: float) -> None:
        """Take no more, and wait for those under way."""
        self.draining = True
        if self._tasks:
            _log.info("draining", open_purchases=len(self._tasks), timeout_s=timeout_s)
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def abort(self) -> None:
        """Stop what is still under way; recovery goes on from what SQL knows."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._abandoning, return_exceptions=True)

    def _intent(self, call: Call) -> Intent:
        caller, request, plan = call.known
        rule = self._prices.rule(request.model, call.provider)
        generation_id = new_id("gen")
        return Intent(
            id=generation_id,
            mode=caller.mode.value,
            fingerprint=call.fingerprint,
            flight=call.fingerprint if plan.storable else None,
            model=request.model.name,
            model_version=request.model.version,
            provider=call.provider,
            key_id=caller.key_id,
            user_id=caller.user_id,
            team_id=caller.team_id,
            request=self._keep_prompt(request),
            expected=msgspec.to_builtins(expected_of(request)),
            images=request.images,
            megapixels=request.megapixels,
            estimate_micro_usd=request.cost(rule),
            price_rule=rule,
            usage=call.usage_row("bought", generation_id=generation_id, provider=call.provider),
            repeat_key=call.repeat_key,
            retried=call.retried,
            claim=call.claim,
        )

    async def _run(self, purchase: Purchase, call: Call, vendor: Vendor) -> None:
        try:
            await self._reserve(purchase, call)
        except Exception as exc:  # noqa: BLE001  (whatever it is, it is the caller's to hear)
            _resolve(purchase.reserved, exc)
            purchase.outcome.cancel()
            return
        except BaseException:
            _resolve(purchase.reserved, _cut_off())
            purchase.outcome.cancel()
            raise
        self.active[purchase.id] = purchase
        self._metrics.open_purchases.inc()
        try:
            purchase.reserved.set_result(None)
            published = await self._buyer.buy(Commission(purchase.intent, call, vendor, purchase.refuse))
            if published.entry is not None:
                self._answers.keep(published.entry)
            purchase.outcome.set_result(published)
        except Exception as exc:  # noqa: BLE001  (whatever it is, those who wait are told, and recovery goes on)
            if not isinstance(exc, DarkroomError):
                _log.exception("purchase_broke_off", generation_id=purchase.id)
            purchase.refuse(exc)
            await self._hand_to_recovery(purchase.id)
        except BaseException:
            purchase.refuse(_cut_off())
            raise
        finally:
            del self.active[purchase.id]
            self._metrics.open_purchases.dec()
            self._tell(purchase.id)

    async def _hand_to_recovery(self, generation_id: str) -> None:
        """If the generation is not over, recovery takes it up. With SQL gone its lease runs out by itself."""
        with contextlib.suppress(LedgerUnavailable):
            await self._database.write(lambda conn: orphans.disown(conn, generation_id, lease_owner=self._process_id))

    async def _reserve(self, purchase: Purchase, call: Call) -> None:
        caller, _, plan = call.known

        def accepts(entry: Entry, now_ms: int) -> bool:
            return plan.readable and plan.accepts(
                created_ms=entry.created_ms, expires_ms=entry.expires_ms, now_ms=now_ms
            )

        limits = [limit for limit in caller.limits if limit.metric is not Metric.REQUESTS]
        with self._tracing.span(RESERVATION, generation_id=purchase.id):
            await self._database.write(
                lambda conn: generations.reserve(
                    conn, purchase.intent, limits, lease_owner=self._process_id, accepts=accepts
                )
            )


def _cut_off() -> Draining:
    return Draining(
        "The gateway had to stop before the picture came. What became of the purchase is settled when it is back.",
        charged="unknown",
        should_retry=False,
    )


def _resolve(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
