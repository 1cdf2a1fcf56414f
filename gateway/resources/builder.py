"""Builds the graph bottom-up, leaving on the stack what has to be closed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from gateway.config import Settings
from gateway.domain.caller import Caller
from gateway.domain.limits import DefaultLimit, Limit, parse_amount
from gateway.errors import ConfigurationError
from gateway.resources.databases import open_configured_database
from gateway.resources.graph import Resources
from gateway.resources.image_stores import open_image_store
from gateway.resources.journals import delivery
from gateway.resources.keeping import keeper, not_kept
from gateway.resources.models import served_models
from gateway.resources.shared import open_shared
from gateway.resources.tracing import open_tracing
from gateway.resources.vendors import open_sealer, open_vendors, provider_of
from gateway.services.accounts import AccountService
from gateway.services.administrators import Administrators
from gateway.services.admission import Admission
from gateway.services.alerts import Alerts
from gateway.services.answers import AnswerCache, AnswerRenderer, ImageLinks
from gateway.services.balances import BalanceWatch
from gateway.services.budgets import Budgets
from gateway.services.buying import Buyer, Vendor
from gateway.services.cache_administration import CacheAdministration
from gateway.services.callers import CallerDirectory
from gateway.services.changes import ChangeFollower
from gateway.services.declarations import DeclarationService
from gateway.services.deliveries import Deliveries
from gateway.services.erasure import Erasure
from gateway.services.first_run import ready_test_key
from gateway.services.flights import Flights
from gateway.services.following import Following
from gateway.services.generate_image import ImageGenerator
from gateway.services.limit_usage import LimitUsage
from gateway.services.pictures import Pictures
from gateway.services.prices import PriceBook
from gateway.services.provider_keys import ProviderKeys
from gateway.services.publication import Publisher
from gateway.services.purchases import Purchases
from gateway.services.readiness import Readiness
from gateway.services.receipts import ImageGallery, Receipts
from gateway.services.reconcile import Reconciler
from gateway.services.recovery import Recovery
from gateway.services.replica_count import ReplicaCount
from gateway.services.sessions import Sessions
from gateway.services.settlement import Settlement
from gateway.services.statements import Statements
from gateway.services.thumbnails import Thumbnails
from gateway.services.usage import UsageRecorder
from gateway.services.usage_reports import UsageReports
from gateway.services.webhooks import Webhooks
from gateway.storage import usage_log
from gateway.storage.data_dir import adopt, kept_secret, left_places, locked, make_data_dir, worker_dir
from gateway.storage.database import Database
from gateway.storage.image_spool import SpooledImageStore
from gateway.storage.journal import Journal
from gateway.storage.migrations import migrate, require_known_schema
from gateway.storage.response_cache import MemoryAnswers
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.worker_metrics import WorkerMetrics

_RETENTION_PERIOD_S = 600.0
_LAST_WORDS_S = 15.0
"""How long a process may take to end beyond `server.drain_s`."""
_log = structlog.get_logger(__name__)


class Builder:
    """Builds the graph bottom-up, leaving on the stack what has to be closed."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, *, worker: int | None = None) -> None:
        self._settings = settings
        self._worker = worker
        self._stack = stack
        self._process_id = secrets.token_hex(8)

    async def build(self) -> Resources:
        self._models = served_models(self._settings)
        self._tracing = open_tracing(self._settings.tracing)
        self._stack.push_async_callback(asyncio.to_thread, self._tracing.close)
        await self._open_stores()
        await self._meet_replicas()
        await self._hold_in_memory()
        await self._set_up_purchases()
        self._admit()
        return await self._assemble()

    async def _open_stores(self) -> None:
        """What lasts: SQL, the journal (delivered of what an earlier process left), pictures, secrets."""
        data_dir = self._settings.data_dir
        make_data_dir(data_dir)
        place = data_dir if self._worker is None else worker_dir(data_dir, self._worker)
        make_data_dir(place)
        wait_s = self._settings.server.drain_s + _LAST_WORDS_S
        self._stack.enter_context(locked(place, wait_s=0 if self._worker is None else wait_s))
        for other in left_places(data_dir, worker=self._worker, workers=self._settings.server.workers):
            adopt(place, other, wait_s=None if other == data_dir else wait_s)  # held by who watches over the workers
        self._database = await self._open_database()
        self._secrets = self._read_secrets()
        self._images = SpooledImageStore(open_image_store(self._settings), place / "spool")
        self._background(self._images.run())
        self._metrics = Metrics()
        self._show_metrics(place)
        self._journal = Journal(place / "journal", delivery(self._database), lag=self._metrics.journal_lag_rows)
        self._stack.push_async_callback(self._journal.close)
        await self._journal.recover()
        self._background(self._journal.run())

    async def _meet_replicas(self) -> None:
        """What replicas share beside SQL; a process that is alone shares nothing."""
        self._shared = await open_shared(self._settings, self._metrics, self._count_calls, self._background)
        if not self._embedded:
            count = ReplicaCount(self._database, process_id=self._process_id, share=self._shared.set_share)
            await count.beat()
            self._stack.push_async_callback(count.leave)
            self._background(count.run())

    def _show_metrics(self, place: Path) -> None:
        """What `/metrics` answers: of all processes behind the port, not of the one that is asked."""
        self._render_metrics: Callable[[], bytes] = self._metrics.render
        if self._worker is not None:
            data_dir, numbers = self._settings.data_dir, range(1, self._settings.server.workers + 1)
            shown = WorkerMetrics(
                self._metrics.render,
                worker=self._worker,
                places=lambda: [(number, worker_dir(data_dir, number)) for number in numbers],
            )
            self._background(shown.run(place))
            self._render_metrics = shown

    async def _hold_in_memory(self) -> None:
        """What memory holds of SQL, and follows by the `changes` table."""
        self._follower = follower = ChangeFollower(self._database, tell=self._shared.notices.tell)
        self._memory = MemoryAnswers(self._settings.cache.memory_mb * 2**20)
        self._answers = AnswerCache(self._database, self._memory, self._shared.answers)
        self._callers = CallerDirectory(self._database, self._secrets, self._default_limits())
        follower.subscribe(self._callers.invalidate, forget_all=self._callers.clear)
        follower.subscribe(self._answers.on_change, forget_all=self._answers.clear)
        await follower.start()
        self._stack.push_async_callback(follower.stop)
        self._background(self._callers.run())

    async def _set_up_purchases(self) -> None:
        """Buying, and recovery: what an earlier process left is settled before the first call."""
        settings = self._settings
        self._vendors = self._open_vendors()
        self._provider_keys = ProviderKeys(
            self._database, self._vendors, open_sealer(settings), notify=self._follower.notify
        )
        await self._provider_keys.load()
        self._stack.push_async_callback(self._provider_keys.stop)
        self._follower.subscribe(self._provider_keys.on_change, forget_all=self._provider_keys.forget)
        self._usage = UsageRecorder(self._journal, self._metrics)
        self._prices = PriceBook(self._database)
        await self._prices.load()
        ttl_ms = None if settings.cache.ttl_s is None else settings.cache.ttl_s * 1000
        publisher = Publisher(self._database, self._images, ttl_ms=ttl_ms, tracing=self._tracing)
        buyer = Buyer(
            self._database,
            publisher,
            self._prices,
            self._usage,
            self._metrics,
            self._tracing,
            process_id=self._process_id,
            keep_words=str if settings.privacy.store_prompts == "full" else not_kept,
        )
        self._purchases = Purchases(
            self._database,
            self._images,
            buyer,
            self._answers,
            self._vendors,
            self._prices,
            self._metrics,
            self._tracing,
            process_id=self._process_id,
            keep_prompt=keeper(settings.privacy.store_prompts, self._secrets[0]),
            tell=self._tell_generation,
        )
        self._recovery = Recovery(
            self._database,
            publisher,
            self._answers,
            {name: vendor.provider for name, vendor in self._vendors.items()},
            process_id=self._process_id,
            active=self._purchases.active,
            tell=self._tell_generation,
        )
        self._following = Following(self._recovery.look)
        self._background(self._shared.notices.run(self._hear))
        if self._embedded:
            await self._recovery.take_over()
        self._background(self._recovery.run())
        self._settlement = Settlement(self._database, self._vendors, self._metrics)
        self._background(self._settlement.run())
        telling = {name: vendor for name, vendor in self._vendors.items() if vendor.provider.kind == "aimlapi"}
        self._background(BalanceWatch(telling, self._metrics).run())
        self._stack.push_async_callback(self._purchases.abort)
        self._stack.push_async_callback(self._purchases.drain, settings.server.drain_s)

    def _admit(self) -> None:
        self._admission = Admission(
            self._callers,
            self._shared.rates,
            self._models,
            provider_of=provider_of(self._vendors),
            cache_scope=self._settings.cache.scope,
            max_wait_s=self._settings.server.max_wait_s,
        )

    async def _assemble(self) -> Resources:
        settings, database = self._settings, self._database
        base_url, expire_s = settings.server.base_url, settings.image_urls.expire_s
        links = ImageLinks(base_url, secrets=self._secrets, expire_s=expire_s)
        accounts = AccountService(database, self._secrets, self._models, notify=self._follower.notify)
        cache = CacheAdministration(database, self._memory, self._images, self._follower.notify)
        thumbnails = Thumbnails(
            database,
            self._images,
            settings.data_dir / "thumbnails",
            max_bytes=settings.retention.thumbnails_mb * 2**20,
        )
        await _warn_of_a_secret_left_out(settings, accounts)
        administrators = Administrators(database, self._secrets, owner_key=self._admin_key())
        erasure = Erasure(
            database,
            notify=self._follower.notify,
            flush=self._journal.flush,
            longest_purchase_s=max(vendor.timeout_s for vendor in self._vendors.values()),
        )
        self._background(_retain(cache, thumbnails, erasure, settings))
        webhooks = Webhooks(database, open_sealer(settings))
        deliveries = Deliveries(database, webhooks, self._metrics)
        self._stack.push_async_callback(deliveries.close)
        alerts = Alerts(database, self._default_limits(), told=deliveries.wake)
        self._background(deliveries.run())
        self._background(alerts.run())
        return Resources(
            settings=settings,
            models=self._models,
            test_key=await ready_test_key(accounts, settings.data_dir) if self._embedded else None,
            render_metrics=self._render_metrics,
            administrators=administrators,
            sessions=Sessions(database, administrators, self._callers, life_s=settings.console.session_s),
            accounts=accounts,
            declarations=DeclarationService(database, self._models, notify=self._follower.notify),
            callers=self._callers,
            admission=self._admission,
            generator=ImageGenerator(
                database,
                answers=self._answers,
                renderer=AnswerRenderer(links, self._images),
                flights=Flights(),
                purchases=self._purchases,
                following=self._following,
                usage=self._usage,
                prices=self._prices,
            ),
            usage=self._usage,
            budgets=Budgets(database, self._shared.rates),
            limit_usage=LimitUsage(database, self._default_limits(), flush=self._journal.flush),
            alerts=alerts,
            webhooks=webhooks,
            deliveries=deliveries,
            reports=UsageReports(database, flush=self._journal.flush),
            statements=Statements(database, flush=self._journal.flush),
            receipts=Receipts(database, links),
            gallery=ImageGallery(database, self._images, links),
            pictures=Pictures(database, links, self._models, prompts_kept=settings.privacy.store_prompts == "full"),
            thumbnails=thumbnails,
            cache=cache,
            erasure=erasure,
            provider_keys=self._provider_keys,
            settlement=self._settlement,
            reconciler=Reconciler(database, self._vendors, self._settlement),
            purchases=self._purchases,
            database=database,
            tracing=self._tracing,
            readiness=Readiness(self._purchases, self._journal, database),
        )

    def _tell_generation(self, generation_id: str) -> None:
        self._shared.notices.tell("generation", generation_id)

    def _hear(self, kind: str, object_id: str) -> None:
        """A notice, of this process or another."""
        if kind == "generation":
            self._following.hear(object_id)
        else:
            self._follower.hear(kind, object_id)

    async def _count_calls(self, caller: Caller, limit: Limit, since_ms: int) -> int:
        """What the usage log counts against a limit of requests, rows still in our journal included."""
        await self._journal.flush()
        return await self._database.read(
            lambda conn: usage_log.count_requests(
                conn,
                mode=caller.mode.value,
                scope_column=f"{limit.scope}_id",
                scope_id=limit.scope_id,
                since_ms=since_ms,
            )
        )

    @property
    def _embedded(self) -> bool:
        """SQLite: this process is alone with its database."""
        return self._database.url.get_backend_name() == "sqlite"

    async def _open_database(self) -> Database:
        """Embedded: migrated here. A shared one is migrated by `darkroom migrate`, when its operator means it."""
        database = open_configured_database(self._settings)
        self._stack.push_async_callback(database.close)
        if database.url.get_backend_name() == "sqlite":
            await migrate(database)
        elif not await require_known_schema(database):
            raise ConfigurationError("The database is not at this version's schema: run `darkroom migrate` first.")
        return database

    def _background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_report_end)

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(stop)

    def _read_secrets(self) -> list[bytes]:
        configured = [secret.get_secret_value().encode() for secret in self._settings.security.secrets]
        return configured or [kept_secret(self._settings.data_dir, "secret").encode()]

    def _admin_key(self) -> str:
        configured = self._settings.security.admin_key
        return configured.get_secret_value() if configured else kept_secret(self._settings.data_dir, "admin_key")

    def _default_limits(self) -> list[DefaultLimit]:
        return [
            DefaultLimit(limit.metric, limit.window, parse_amount(limit.metric, limit.amount), tuple(limit.alert_at))
            for limit in self._settings.limits.user
        ]

    def _open_vendors(self) -> dict[str, Vendor]:
        vendors = open_vendors(self._settings)
        for name, vendor in vendors.items():
            self._metrics.provider_keys.follow(name, vendor.pool.statuses)
            self._stack.push_async_callback(vendor.provider.close)
        return vendors


async def _warn_of_a_secret_left_out(settings: Settings, accounts: AccountService) -> None:
    """Configured secrets in place of the one that was generated, and not beside it, turn its keys' holders away."""
    configured = [secret.get_secret_value() for secret in settings.security.secrets]
    left = settings.generated("secret")
    if configured and left is not None and left not in configured and (await accounts.list_keys(limit=1)).data:
        _log.warning(
            "generated_secret_left_out",
            file=str(settings.data_dir / "secret"),
            reason="keys that were made with it are refused: add it to security.secrets as a further entry, "
            "or delete the file when none of them is in use",
        )


def _report_end(task: asyncio.Task[None]) -> None:
    """Background work goes on for ever: an end by itself is a defect, and must not pass in silence."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("background_work_ended", exc_info=task.exception())


async def _retain(cache: CacheAdministration, thumbnails: Thumbnails, erasure: Erasure, settings: Settings) -> None:
    """Apply retention, and erase what comes late, for ever; what fails is tried again."""
    retention = settings.retention
    while True:
        try:
            await cache.apply_retention(images_days=retention.images_days, requests_days=retention.requests_days)
            await thumbnails.sweep()
            await erasure.follow_up()
        except Exception:  # noqa: BLE001  (whatever it was, the next round is owed its turn)
            _log.exception("retention_failed")
        await asyncio.sleep(_RETENTION_PERIOD_S)
