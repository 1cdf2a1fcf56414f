"""One purchase from its reservation to its picture: attempts at the provider, the money, the publication.

What is learnt after the order was sent is never dropped: if SQL is gone it is tried again until it is back or the
process ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from msgspec.structs import replace

from gateway.domain.answer import ProviderAnswer
from gateway.domain.image_request import ImageRequest
from gateway.domain.outcome import Lost, Proof, Refused, UpstreamFailure, Verdict, judge
from gateway.domain.pricing import MICRO_PER_USD
from gateway.domain.usage_row import UsageRow, failed_row
from gateway.errors import DarkroomError, LedgerUnavailable, ProviderUnavailable, StorageFailed, reason_of, to_record
from gateway.providers.base import Order, Provider, ProviderKey
from gateway.providers.key_pool import KeyPool, PooledKey
from gateway.services.calls import Call
from gateway.services.charges import charge_of, expected_of
from gateway.services.prices import PriceBook
from gateway.services.publication import Paid, Published, Publisher
from gateway.services.usage import UsageRecorder
from gateway.storage import generations
from gateway.storage.database import Database
from gateway.storage.generations import Charge, Intent
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import ORDER, Tracing

_ATTEMPTS = 3
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_SQL_PAUSE_S = 0.5

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Vendor:
    """A provider with its keys, `configured` those of the settings. `timeout_s`: the longest a purchase may take at the
    provider. `books_lag_s`: how long after that its books may still miss a call.
    """

    provider: Provider
    pool: KeyPool
    timeout_s: float
    books_lag_s: float = 900.0
    configured: Sequence[PooledKey] = ()


@dataclass(frozen=True, slots=True)
class Commission:
    """What is to be bought, for whom, where. `tell` is called with a refusal as soon as it is certain."""

    intent: Intent
    call: Call
    vendor: Vendor
    tell: Callable[[DarkroomError], None]

    @property
    def request(self) -> ImageRequest:
        _, request, _ = self.call.known
        return request

    def row(self, error: DarkroomError, cost_micro_usd: int | None) -> UsageRow:
        """The buyer's row of a purchase that brings no picture, or not yet."""
        row = failed_row(self.intent.usage, error, cost_micro_usd=cost_micro_usd)
        return replace(row, latency_us=self.call.latency_us)


class Buyer:
    """Carries out commissions whose money is reserved."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        prices: PriceBook,
        usage: UsageRecorder,
        metrics: Metrics,
        tracing: Tracing,
        *,
        process_id: str,
        keep_words: Callable[[str], str],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`keep_words` says what SQL may keep of a refusal, which may quote the prompt."""
        self._database = database
        self._publisher = publisher
        self._prices = prices
        self._usage = usage
        self._metrics = metrics
        self._tracing = tracing
        self._process_id = process_id
        self._keep_words = keep_words
        self._sleep = sleep

    async def buy(self, commission: Commission) -> Published:
        """Raises DarkroomError; the generation has ended then, or its picture is left to recovery."""
        intent, request = commission.intent, commission.request
        answer = await self._ask(commission)
        charge = charge_of(answer, request, intent.price_rule, intent.estimate_micro_usd)
        await self._insist(
            lambda conn: generations.record_answer(conn, intent.id, answer, charge, lease_owner=self._process_id)
        )
        cost_usd = charge.cost_micro_usd / MICRO_PER_USD
        self._metrics.cost_usd.labels(intent.provider, intent.model, intent.mode).inc(cost_usd)
        if charge.overrun:
            await self._learn(request, intent.provider, charge)
        paid = Paid(
            generation_id=intent.id,
            provider=commission.vendor.provider,
            answer=answer,
            cost_micro_usd=charge.cost_micro_usd,
            expected=expected_of(request),
            storable=intent.flight is not None,
            usage=intent.usage,
            latency_us=lambda: commission.call.latency_us,
        )
        return await self._publish(paid, commission)

    async def _learn(self, request: ImageRequest, provider: str, charge: Charge) -> None:
        try:
            cost, images = charge.cost_micro_usd, charge.images
            await self._prices.learn(request, provider, cost_micro_usd=cost, images=images)
        except LedgerUnavailable:
            _log.warning("price_lesson_not_kept", model=request.model.name)

    async def _publish(self, paid: Paid, commission: Commission) -> Published:
        try:
            published = await self._publisher.publish(paid)
        except DarkroomError as exc:
            error = exc if exc.charged == "yes" else _kept_for_later(exc)
            if error is not exc:
                _log.error("picture_not_kept", generation_id=paid.generation_id, reason=reason_of(exc))
            self._usage.note(commission.row(error, paid.cost_micro_usd))
            raise error from exc
        self._usage.bought(published.row)
        return published

    async def _ask(self, commission: Commission) -> ProviderAnswer:
        """Attempts until an answer, or a verdict that allows no other. Ends the generation if there is none."""
        vendor = commission.vendor
        deadline = time.monotonic() + vendor.timeout_s
        refused_keys: set[str] = set()
        attempt = 0
        vendor.pool.begin()
        while True:
            attempt += 1
            try:
                return await self._attempt(commission, refused_keys, deadline)
            except UpstreamFailure as failure:
                verdict = judge(failure.event)
                self._report(commission, failure, attempt)
                pause_s = _pause(verdict, attempt)
                if not _may_repeat(verdict, attempt, time.monotonic() + pause_s < deadline, vendor.pool):
                    error = _refusal(verdict, vendor.pool)
                    await self._end(commission, error, verdict.proof)
                    raise error from failure
                await self._sleep(pause_s)
            except DarkroomError as error:  # no key to be had, or SQL gone before the order was sent
                commission.tell(error)  # the caller need not wait for SQL to be back
                await self._end(commission, error, Proof.NOT_BOUGHT)
                raise

    async def _attempt(self, commission: Commission, refused_keys: set[str], deadline: float) -> ProviderAnswer:
        intent, pool = commission.intent, commission.vendor.pool
        wait_s = max(0.0, deadline - time.monotonic())
        async with pool.slot(exclude=refused_keys, timeout_s=wait_s) as key:
            await self._mark_sent(intent.id, key)
            started = time.monotonic()
            try:
                answer = await self._order(commission, key)
            except UpstreamFailure as failure:
                verdict = judge(failure.event)
                pool.failed(key.id, verdict)
                if verdict.remedy == "other_key":
                    refused_keys.add(key.id)
                raise
            except Exception as exc:  # a defect of ours: the order may have gone out, so nothing is known
                _log.exception("provider_broke", generation_id=intent.id)
                raise UpstreamFailure(Lost(f"internal error: {type(exc).__name__}")) from exc
            pool.succeeded(key.id)
            self._metrics.purchase_seconds.labels(intent.provider).observe(time.monotonic() - started)
            return answer

    async def _order(self, commission: Commission, key: ProviderKey) -> ProviderAnswer:
        intent, request = commission.intent, commission.request
        with self._tracing.span(ORDER, provider=intent.provider, generation_id=intent.id):
            trace = self._tracing.traceparent()
            order = Order(intent.id, request.model.upstream_model, request.parameters, traceparent=trace)
            return await commission.vendor.provider.buy(order, key)

    async def _mark_sent(self, generation_id: str, key: ProviderKey) -> None:
        sent = await self._database.write(
            lambda conn: generations.mark_sent(
                conn, generation_id, lease_owner=self._process_id, provider_key_id=key.id
            )
        )
        if not sent:
            raise ProviderUnavailable("The purchase waited too long to be sent.", retry_after_s=1, charged="no")

    def _report(self, commission: Commission, failure: UpstreamFailure, attempt: int) -> None:
        kind = type(failure.event).__name__.lower()
        self._metrics.provider_errors.labels(commission.intent.provider, kind).inc()
        _log.warning("provider_failed", generation_id=commission.intent.id, attempt=attempt, **_described(failure))

    async def _end(self, commission: Commission, error: DarkroomError, proof: Proof) -> None:
        """Close a generation that brings no picture, with its buyer's row.

        What waiting cures is not kept for an Idempotency-Key: the next call with it may buy.
        """
        intent = commission.intent
        unknown = proof is Proof.UNKNOWN
        row = commission.row(error, None if unknown else 0)
        said = to_record(error, self._keep_words(error.message))
        frees = error.retry_after_s is not None

        def close(conn: sa.Connection) -> bool:
            if unknown:
                return generations.lose(conn, intent.id, error=said, usage=row)
            return generations.fail(conn, intent.id, error=said, usage=row, frees_claims=frees)

        await self._insist(close)
        self._usage.bought(row)

    async def _insist(self, work: Callable[[sa.Connection], T]) -> T:
        """What is known of money is written, however long SQL is gone."""
        while True:
            try:
                return await self._database.write(work)
            except LedgerUnavailable as exc:
                _log.error("ledger_unavailable", reason=reason_of(exc))
                await self._sleep(_SQL_PAUSE_S)


def _may_repeat(verdict: Verdict, attempt: int, in_time: bool, pool: KeyPool) -> bool:
    """Only what provably was not bought, within the time and the budget there is for it."""
    if verdict.remedy == "other_key":  # with no other key the pool refuses
        return pool.may_retry()
    return verdict.remedy == "retry" and attempt < _ATTEMPTS and in_time and pool.may_retry()


def _refusal(verdict: Verdict, pool: KeyPool) -> DarkroomError:
    """What the caller is told. Where another key would do, but too many calls are being repeated: to come again."""
    if verdict.remedy != "other_key":
        return verdict.error
    try:
        pool.require_any()
    except ProviderUnavailable:
        return verdict.error
    return ProviderUnavailable("A provider key was refused just now; others work.", retry_after_s=1, charged="no")


def _pause(verdict: Verdict, attempt: int) -> float:
    """Seconds before the next attempt; for ever when the provider asks for longer than a caller should wait.

    A key that cools is waited for in the pool, unless another one is free.
    """
    if verdict.remedy != "retry" or verdict.key == "cool":
        return 0.0
    asked = verdict.pause_s or 0.0
    backoff = _FIRST_PAUSE_S * 2 ** (attempt - 1)
    return max(backoff, asked) if asked <= _LONGEST_PAUSE_S else float("inf")


def _described(failure: UpstreamFailure) -> Mapping[str, Any]:
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
