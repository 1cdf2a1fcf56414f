"""Purchases: each runs in a task of its own, from the reservation to the published picture.

The caller may leave; the picture is finished, kept and accounted. What a task learns after the order was sent is
never dropped: if SQL is gone it tries again until it is back or the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
import structlog

from gateway.domain.answer import ProviderAnswer
from gateway.domain.ids import new_id
from gateway.domain.image_request import ImageRequest
from gateway.domain.limits import Metric
from gateway.domain.outcome import Lost, Proof, Refused, UpstreamFailure, Verdict, judge
from gateway.domain.pricing import MICRO_PER_USD, PriceRule
from gateway.errors import DarkroomError, Draining, LedgerUnavailable, ProviderUnavailable, StorageFailed
from gateway.providers.base import Order, Provider
from gateway.providers.key_pool import KeyPool
from gateway.services.answers import AnswerCache
from gateway.services.calls import Call
from gateway.services.prices import PriceBook
from gateway.services.publication import Expected, Paid, Published, Publisher
from gateway.services.usage import UsageRecorder
from gateway.storage import generations
from gateway.storage.database import Database
from gateway.storage.generations import Charge, Intent
from gateway.storage.images import ImageStore
from gateway.storage.response_cache import Entry
from gateway.telemetry.metrics import Metrics

_ATTEMPTS = 3
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_SQL_PAUSE_S = 0.5
_EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp"}

T = TypeVar("T")
_log = structlog.get_logger(__name__)
KeepPrompt = Callable[[ImageRequest], dict[str, Any] | None]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Vendor:
    """A provider with its keys. `timeout_s`: the longest a purchase may take at the provider."""

    provider: Provider
    pool: KeyPool
    timeout_s: float


@dataclass(eq=False, slots=True)
class Purchase:
    """One generation under way in this process. `reserved` and `outcome` are always resolved in the end."""

    intent: Intent
    reserved: asyncio.Future[None]
    outcome: asyncio.Future[Published]
    timeout_s: float
    row_written: bool = field(default=False)

    @property
    def id(self) -> str:
        return self.intent.id


class Purchases:
    """Starts purchases and keeps track of those under way."""

    def __init__(
        self,
        database: Database,
        images: ImageStore,
        publisher: Publisher,
        answers: AnswerCache,
        vendors: Mapping[str, Vendor],
        prices: PriceBook,
        usage: UsageRecorder,
        metrics: Metrics,
        *,
        process_id: str,
        keep_prompt: KeepPrompt,
        keep_words: Callable[[str], str],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`keep_prompt` and `keep_words` say what SQL may keep of a request, and of a refusal that may quote it."""
        self._database = database
        self._images = images
        self._publisher = publisher
        self._answers = answers
        self._vendors = vendors
        self._prices = prices
        self._usage = usage
        self._metrics = metrics
        self._process_id = process_id
        self._keep_prompt = keep_prompt
        self._keep_words = keep_words
        self._sleep = sleep
        self._tasks: set[asyncio.Task[None]] = set()
        self.active: set[str] = set()
        self.draining = False

    async def start(self, call: Call) -> Purchase:
        """Reserve, and set the purchase going.

        Raises LimitExceeded (the caller's own refusal), AlreadyUnderWay, AlreadyStored, or what makes buying
        impossible now: ProviderUnavailable, StorageFailed, LedgerUnavailable, Draining. Nothing is held then.
        """
        self.check_open()
        vendor = self._vendors[call.provider]
        vendor.pool.require_any()
        await self._images.check()
        self.check_open()  # again: what begins after `drain` looked would not be waited for
        loop = asyncio.get_running_loop()
        purchase = Purchase(self._intent(call), loop.create_future(), loop.create_future(), vendor.timeout_s)
        purchase.outcome.add_done_callback(_retrieve)  # a purchase whose caller left has nobody to read its error
        purchase.reserved.add_done_callback(_retrieve)
        task = asyncio.create_task(self._run(purchase, call, vendor), name=f"purchase {purchase.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(purchase.reserved)
        call.generation_id = purchase.id
        return purchase

    def check_open(self) -> None:
        """Raises Draining once the process is on its way out."""
        if self.draining:
            raise Draining("The gateway is shutting down; send the call again.", retry_after_s=1, charged="no")

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
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        )

    async def _run(self, purchase: Purchase, call: Call, vendor: Vendor) -> None:
        try:
            await self._reserve(purchase, call)
        except BaseException as exc:
            _resolve(purchase.reserved, exc)
            purchase.outcome.cancel()
            if not isinstance(exc, Exception):
                raise
            return
        self.active.add(purchase.id)
        self._metrics.open_purchases.inc()
        try:
            purchase.reserved.set_result(None)
            purchase.outcome.set_result(await self._buy(purchase, call, vendor))
        except BaseException as exc:
            _resolve(purchase.outcome, exc)
            if not isinstance(exc, Exception):
                raise
            if not isinstance(exc, DarkroomError):
                _log.exception("purchase_broke_off", generation_id=purchase.id)
            await self._hand_to_recovery(purchase.id)
        finally:
            self.active.discard(purchase.id)
            self._metrics.open_purchases.dec()

    async def _hand_to_recovery(self, generation_id: str) -> None:
        """If the generation is not over, recovery takes it up. With SQL gone its lease runs out by itself."""
        with contextlib.suppress(LedgerUnavailable):
            await self._database.write(lambda conn: generations.disown(conn, generation_id))

    async def _reserve(self, purchase: Purchase, call: Call) -> None:
        caller, _, plan = call.known

        def accepts(entry: Entry, now_ms: int) -> bool:
            return plan.readable and plan.accepts(
                created_ms=entry.created_ms, expires_ms=entry.expires_ms, now_ms=now_ms
            )

        limits = [limit for limit in caller.limits if limit.metric is not Metric.REQUESTS]
        await self._database.write(
            lambda conn: generations.reserve(
                conn, purchase.intent, limits, lease_owner=self._process_id, accepts=accepts
            )
        )

    async def _buy(self, purchase: Purchase, call: Call, vendor: Vendor) -> Published:
        answer = await self._ask(purchase, call, vendor)
        _, request, _ = call.known
        charge = charge_of(answer, request, purchase.intent.price_rule, purchase.intent.estimate_micro_usd)
        await self._insist(lambda conn: generations.record_answer(conn, purchase.id, answer, charge))
        intent = purchase.intent
        cost_usd = charge.cost_micro_usd / MICRO_PER_USD
        self._metrics.cost_usd.labels(intent.provider, intent.model, intent.mode).inc(cost_usd)
        paid = Paid(
            generation_id=purchase.id,
            provider=vendor.provider,
            answer=answer,
            cost_micro_usd=charge.cost_micro_usd,
            expected=expected_of(request),
            storable=intent.flight is not None,
            usage=intent.usage,
        )
        if charge.overrun:
            await self._learn(request, intent.provider, charge)
        return await self._publish(paid, purchase, call)

    async def _learn(self, request: ImageRequest, provider: str, charge: Charge) -> None:
        try:
            cost, images = charge.cost_micro_usd, charge.images
            await self._prices.learn(request, provider, cost_micro_usd=cost, images=images)
        except LedgerUnavailable:
            _log.warning("price_lesson_not_kept", model=request.model.name)

    async def _publish(self, paid: Paid, purchase: Purchase, call: Call) -> Published:
        try:
            published = await self._publisher.publish(paid, latency_us=_latency_us(call))
        except DarkroomError as exc:
            error = exc if exc.charged == "yes" else _kept_for_later(exc)
            row = purchase.intent.usage | {
                "outcome": "failed",
                "status": error.status,
                "code": error.code,
                "cost_micro_usd": paid.cost_micro_usd,
                "latency_us": _latency_us(call),
            }
            self._usage.note(row)
            purchase.row_written = True
            raise error from exc
        if published.entry is not None:
            self._answers.keep(published.entry)
        self._usage.bought(published.row)
        return published

    async def _ask(self, purchase: Purchase, call: Call, vendor: Vendor) -> ProviderAnswer:
        """Attempts until an answer, or a verdict that allows no other. Ends the generation if there is none."""
        deadline = time.monotonic() + vendor.timeout_s
        refused_keys: set[str] = set()
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(purchase, call, vendor, refused_keys, deadline)
            except UpstreamFailure as failure:
                verdict = judge(failure.event)
                kind = type(failure.event).__name__.lower()
                self._metrics.provider_errors.labels(call.provider, kind).inc()
                _log.warning(
                    "provider_failed",
                    generation_id=purchase.id,
                    attempt=attempt,
                    **_described(failure),
                )
                if verdict.remedy == "other_key":
                    continue  # the key it failed with is in refused_keys; with none left the pool refuses
                pause_s = _pause(verdict, attempt)
                if verdict.remedy != "retry" or attempt >= _ATTEMPTS or time.monotonic() + pause_s >= deadline:
                    await self._end(purchase, call, verdict.error, verdict.proof)
                    raise verdict.error from failure
                await self._sleep(pause_s)
            except DarkroomError as error:  # no key to be had, or SQL gone before the order was sent
                purchase.row_written = True
                _resolve(purchase.outcome, error)  # the caller need not wait for SQL to be back
                await self._end(purchase, call, error, Proof.NOT_BOUGHT)
                raise

    async def _attempt(
        self, purchase: Purchase, call: Call, vendor: Vendor, refused_keys: set[str], deadline: float
    ) -> ProviderAnswer:
        _, request, _ = call.known
        wait_s = max(0.0, deadline - time.monotonic())
        async with vendor.pool.slot(exclude=refused_keys, timeout_s=wait_s) as key:
            sent = await self._database.write(
                lambda conn: generations.mark_sent(
                    conn, purchase.id, lease_owner=self._process_id, provider_key_id=key.id
                )
            )
            if not sent:
                raise ProviderUnavailable("The purchase waited too long to be sent.", retry_after_s=1, charged="no")
            order = Order(purchase.id, request.model.upstream_model, request.parameters)
            started = time.monotonic()
            try:
                answer = await vendor.provider.buy(order, key)
            except UpstreamFailure as failure:
                if judge(failure.event).remedy == "other_key":
                    refused_keys.add(key.id)
                raise
            except Exception as exc:  # a defect of ours: the order may have gone out, so nothing is known
                _log.exception("provider_broke", generation_id=purchase.id)
                raise UpstreamFailure(Lost(f"internal error: {type(exc).__name__}")) from exc
            self._metrics.purchase_seconds.labels(call.provider).observe(time.monotonic() - started)
            return answer

    async def _end(self, purchase: Purchase, call: Call, error: DarkroomError, proof: Proof) -> None:
        """Close a generation that brings no picture, with its buyer's row."""
        unknown = proof is Proof.UNKNOWN
        row = purchase.intent.usage | {
            "outcome": "failed",
            "status": error.status,
            "code": error.code,
            "cost_micro_usd": None if unknown else 0,
            "latency_us": _latency_us(call),
        }
        said = {"code": error.code, "message": self._keep_words(error.message)}
        close = generations.lose if unknown else generations.fail
        purchase.row_written = True
        await self._insist(lambda conn: close(conn, purchase.id, error=said, usage=row))
        self._usage.bought(row)

    async def _insist(self, work: Callable[[sa.Connection], T]) -> T:
        """What is known of money is written, however long SQL is gone."""
        while True:
            try:
                return await self._database.write(work)
            except LedgerUnavailable as exc:
                _log.error("ledger_unavailable", reason=str(exc.__cause__))
                await self._sleep(_SQL_PAUSE_S)


def charge_of(answer: ProviderAnswer, request: ImageRequest, rule: PriceRule, estimate: int) -> Charge:
    """What the provider says it charged, else the price rule for the images that came."""
    width, height = request.size
    came = len(answer.images)
    cost = answer.cost_micro_usd
    if cost is None:
        cost = rule.cost(images=came, width=width, height=height)
    share = request.megapixels // request.images
    return Charge(cost, came, share * came, overrun=cost > estimate)


def expected_of(request: ImageRequest) -> Expected:
    asked_format = request.parameters[request.model.roles.format]
    return Expected(request.images, _EXTENSIONS[asked_format], request.size)


def _described(failure: UpstreamFailure) -> dict[str, Any]:
    """An event for the log: not the provider's words, which may quote the prompt."""
    event = failure.event
    said = {"event_met": type(event).__name__, "upstream_status": getattr(event, "status", None)}
    return said if isinstance(event, Refused) else {**said, "reason": event.reason}


def _kept_for_later(exc: DarkroomError) -> DarkroomError:
    """SQL or the image store failed after the purchase: it is paid for, and is published when they are back."""
    kind = StorageFailed if isinstance(exc, StorageFailed) else LedgerUnavailable
    return kind(
        "The picture is paid for, but can't be kept right now. Ask again in a while: it is not bought twice.",
        charged="yes",
        should_retry=False,
    )


def _pause(verdict: Verdict, attempt: int) -> float:
    """Seconds before the next attempt; for ever when the provider asks for longer than a caller should wait."""
    asked = verdict.pause_s or 0.0
    backoff = _FIRST_PAUSE_S * 2 ** (attempt - 1)
    return max(backoff, asked) if asked <= _LONGEST_PAUSE_S else float("inf")


def _latency_us(call: Call) -> int:
    return int((time.monotonic() - call.started_s) * 1_000_000)


def _resolve(future: asyncio.Future[Any], exc: BaseException) -> None:
    if future.done():
        return
    if isinstance(exc, Exception):
        future.set_exception(exc)
    else:
        future.cancel()


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
