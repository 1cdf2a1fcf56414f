"""The composition root: opens pools, builds the services on them, closes everything in the opposite order.

The one place that sees storage, providers and services together. Web, command line and tests build the same graph.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.catalog import load_catalog
from gateway.config import Settings
from gateway.config_sections import AimlapiSettings, SandboxSettings
from gateway.domain.api_key import Mode
from gateway.domain.image_request import ImageRequest
from gateway.domain.limits import parse_amount
from gateway.domain.model import Model
from gateway.domain.pricing import parse_price
from gateway.errors import ConfigurationError
from gateway.providers.aimlapi import AimlapiProvider
from gateway.providers.base import Provider, ProviderKey
from gateway.providers.key_pool import KeyPool, PooledKey
from gateway.providers.sandbox import SandboxProvider
from gateway.services.accounts import AccountService
from gateway.services.answers import AnswerCache, AnswerRenderer, ImageLinks
from gateway.services.budgets import BudgetLine, Budgets
from gateway.services.cache_administration import CacheAdministration
from gateway.services.callers import CallerDirectory
from gateway.services.calls import Admission, Call
from gateway.services.changes import ChangeFollower
from gateway.services.first_run import ready_test_key
from gateway.services.flights import Flights
from gateway.services.generate_image import Delivery, ImageGenerator
from gateway.services.prices import PriceBook
from gateway.services.publication import Publisher
from gateway.services.purchases import Purchases, Vendor
from gateway.services.receipts import ImageGallery, Receipt, Receipts
from gateway.services.recovery import Recovery
from gateway.services.usage import UsageRecorder
from gateway.services.usage_reports import Report, UsageReports, month_start_ms
from gateway.storage import usage_log
from gateway.storage.data_dir import kept_secret, locked, make_data_dir
from gateway.storage.database import Database, database_url, open_database
from gateway.storage.images import ImageStore, LocalImageStore
from gateway.storage.journal import Journal
from gateway.storage.migrations import migrate, require_known_schema
from gateway.storage.rate_limits import MemoryRateLimits, RateState
from gateway.storage.response_cache import MemoryAnswers, PurgeFilter
from gateway.telemetry.metrics import Metrics

__all__ = [  # with the words of the services that the API speaks
    "BudgetLine",
    "Call",
    "Delivery",
    "PurgeFilter",
    "RateState",
    "Receipt",
    "Report",
    "Resources",
    "migrate_database",
    "month_start_ms",
    "open_resources",
    "served_models",
]

_SANDBOX_CONCURRENCY = 10_000
_RETENTION_PERIOD_S = 600.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Resources:
    """What the API works with. `test_key` is the ready key of an embedded first start."""

    settings: Settings
    models: Mapping[str, Model]
    admin_key: str
    test_key: str | None
    metrics: Metrics
    accounts: AccountService
    callers: CallerDirectory
    admission: Admission
    generator: ImageGenerator
    usage: UsageRecorder
    budgets: Budgets
    reports: UsageReports
    receipts: Receipts
    gallery: ImageGallery
    cache: CacheAdministration
    purchases: Purchases
    database: Database

    async def check_ready(self) -> None:
        """Raises DarkroomError while new calls should go elsewhere."""
        self.purchases.check_open()
        await self.database.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one())


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Everything, opened and recovered; on the way out open purchases get `drain_s` to finish."""
    async with AsyncExitStack() as stack:
        yield await _Builder(settings, stack).build()


async def migrate_database(settings: Settings) -> None:
    """`darkroom migrate`: the configured database to this version's schema."""
    make_data_dir(settings.data_dir)
    database = open_database(database_url(settings.database_url, settings.data_dir))
    try:
        await migrate(database)
    finally:
        await database.close()


def served_models(settings: Settings) -> dict[str, Model]:
    """The catalogue as configured. Raises ConfigurationError for a model without an entry, a price or a provider."""
    catalog = load_catalog(settings.catalog_dir)
    served = dict(catalog) if not settings.models else {}
    for chosen in settings.models:
        entry = catalog.get(chosen.catalog or chosen.name)
        if entry is None:
            known = ", ".join(sorted(catalog))
            raise ConfigurationError(
                f"models: {chosen.catalog or chosen.name} is not in the catalogue, which has: {known}. "
                "Name one of these in `catalog:`, or add a file to catalog_dir."
            )
        price = None if chosen.price is None else parse_price(chosen.price, model=chosen.name)
        served[chosen.name] = entry.served_as(
            name=chosen.name, provider=chosen.provider, price=price, version=chosen.version
        )
    providers = {provider.name for provider in settings.providers}
    for model in served.values():
        if model.provider not in providers:
            raise ConfigurationError(
                f"models: {model.name} is served by the provider {model.provider}, which is not among "
                f"providers: {', '.join(sorted(providers)) or 'none'}. Set `provider:` of the model."
            )
    return served


class _Builder:
    """Builds the graph bottom-up, leaving on the stack what has to be closed."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._process_id = secrets.token_hex(8)

    async def build(self) -> Resources:
        self._models = served_models(self._settings)
        await self._open_stores()
        self._hold_in_memory()
        await self._set_up_purchases()
        self._admit()
        return await self._assemble()

    async def _open_stores(self) -> None:
        """What lasts: SQL, the journal (delivered of what an earlier process left), pictures, secrets."""
        data_dir = self._settings.data_dir
        make_data_dir(data_dir)
        self._stack.enter_context(locked(data_dir))
        self._database = await self._open_database()
        self._secrets = self._read_secrets()
        self._images: ImageStore = LocalImageStore(self._settings.image_store.path or data_dir / "images")
        self._metrics = Metrics()
        self._journal = Journal(data_dir / "journal", _delivery(self._database), lag=self._metrics.journal_lag_rows)
        self._stack.push_async_callback(self._journal.close)
        await self._journal.recover()
        self._background(self._journal.run())

    def _hold_in_memory(self) -> None:
        """What memory holds of SQL, and follows by the `changes` table."""
        self._follower = follower = ChangeFollower(self._database)
        self._memory = MemoryAnswers(self._settings.cache.memory_mb * 2**20)
        self._answers = AnswerCache(self._database, self._memory)
        self._callers = CallerDirectory(self._database, self._secrets, self._default_limits())
        follower.subscribe(self._callers.invalidate, forget_all=self._callers.clear)
        follower.subscribe(self._answers.on_change, forget_all=self._answers.clear)
        follower.start()
        self._stack.push_async_callback(follower.stop)

    async def _set_up_purchases(self) -> None:
        """Buying, and recovery: what an earlier process left is settled before the first call."""
        settings = self._settings
        self._vendors = self._open_vendors()
        self._usage = UsageRecorder(self._journal, self._metrics)
        self._prices = PriceBook(self._database)
        await self._prices.load()
        ttl_ms = None if settings.cache.ttl_s is None else settings.cache.ttl_s * 1000
        publisher = Publisher(self._database, self._images, ttl_ms=ttl_ms)
        self._purchases = Purchases(
            self._database,
            self._images,
            publisher,
            self._answers,
            self._vendors,
            self._prices,
            self._usage,
            self._metrics,
            process_id=self._process_id,
            keep_prompt=_keeper(settings.privacy.store_prompts, self._secrets[0]),
            keep_words=str if settings.privacy.store_prompts == "full" else _not_kept,
        )
        self._recovery = Recovery(
            self._database,
            publisher,
            self._answers,
            {name: vendor.provider for name, vendor in self._vendors.items()},
            process_id=self._process_id,
            active=self._purchases.active,
        )
        if self._embedded:
            await self._recovery.take_over()
        self._background(self._recovery.run())
        self._stack.push_async_callback(self._purchases.abort)
        self._stack.push_async_callback(self._purchases.drain, settings.server.drain_s)

    def _admit(self) -> None:
        self._rates = MemoryRateLimits()
        self._admission = Admission(
            self._database,
            self._callers,
            self._rates,
            self._models,
            provider_of=_provider_of(self._vendors),
            cache_scope=self._settings.cache.scope,
            flush_usage=self._journal.flush,
        )

    async def _assemble(self) -> Resources:
        settings, database = self._settings, self._database
        base_url, expire_s = settings.server.base_url, settings.image_urls.expire_s
        links = ImageLinks(base_url, secrets=self._secrets, expire_s=expire_s)
        accounts = AccountService(database, self._secrets, self._models, notify=self._follower.notify)
        cache = CacheAdministration(database, self._memory, self._images, self._follower.notify)
        self._background(_retain(cache, settings))
        return Resources(
            settings=settings,
            models=self._models,
            admin_key=self._admin_key(),
            test_key=await ready_test_key(accounts, settings.data_dir) if self._embedded else None,
            metrics=self._metrics,
            accounts=accounts,
            callers=self._callers,
            admission=self._admission,
            generator=ImageGenerator(
                answers=self._answers,
                renderer=AnswerRenderer(links, self._images),
                flights=Flights(),
                purchases=self._purchases,
                recovery=self._recovery,
                usage=self._usage,
                prices=self._prices,
            ),
            usage=self._usage,
            budgets=Budgets(database, self._rates, self._admission),
            reports=UsageReports(database, flush=self._journal.flush),
            receipts=Receipts(database, links),
            gallery=ImageGallery(database, self._images, links),
            cache=cache,
            purchases=self._purchases,
            database=database,
        )

    @property
    def _embedded(self) -> bool:
        """SQLite: this process is alone with its database."""
        return self._database.url.get_backend_name() == "sqlite"

    async def _open_database(self) -> Database:
        """Embedded: migrated here. A shared one is migrated by `darkroom migrate`, when its operator means it."""
        database = open_database(database_url(self._settings.database_url, self._settings.data_dir))
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

    def _default_limits(self) -> list[Any]:
        chosen = self._settings.limits.user
        return [(limit.metric, limit.window, parse_amount(limit.metric, limit.amount)) for limit in chosen]

    def _open_vendors(self) -> dict[str, Vendor]:
        chosen = list(self._settings.providers)
        if not any(isinstance(provider, SandboxSettings) for provider in chosen):
            chosen.append(SandboxSettings())
        vendors = {settings.name: _vendor(settings) for settings in chosen}
        for vendor in vendors.values():
            self._stack.push_async_callback(vendor.provider.close)
        return vendors


def _report_end(task: asyncio.Task[None]) -> None:
    """Background work goes on for ever: an end by itself is a defect, and must not pass in silence."""
    if not task.cancelled() and task.exception() is not None:
        _log.critical("background_work_ended", exc_info=task.exception())


def _vendor(settings: AimlapiSettings | SandboxSettings) -> Vendor:
    if isinstance(settings, SandboxSettings):
        sandbox = SandboxProvider(settings.name, delay_s=settings.delay_s)
        key = PooledKey(ProviderKey(settings.name, ""), 1, _SANDBOX_CONCURRENCY)
        return Vendor(sandbox, KeyPool([key]), timeout_s=settings.delay_s + 60)
    provider: Provider = AimlapiProvider(
        settings.name,
        base_url=settings.base_url,
        image_hosts=settings.image_hosts,
        timeout_s=settings.timeout_s,
        connect_timeout_s=min(10.0, settings.timeout_s / 2),
    )
    keys = [
        PooledKey(_provider_key(settings.name, key.value.get_secret_value()), key.weight, key.max_concurrency)
        for key in settings.api_keys
    ]
    return Vendor(provider, KeyPool(keys), settings.timeout_s)


def _provider_key(provider: str, secret: str) -> ProviderKey:
    """Its public id is a hash of it: the same after a restart and on every replica, and it tells nothing."""
    return ProviderKey(f"{provider}-{hashlib.sha256(secret.encode()).hexdigest()[:8]}", secret)


def _provider_of(vendors: Mapping[str, Vendor]) -> Callable[[Mode, Model], tuple[str, str]]:
    sandbox = next(name for name, vendor in vendors.items() if vendor.provider.kind == "sandbox")

    def chosen(mode: Mode, model: Model) -> tuple[str, str]:
        name = sandbox if mode is Mode.TEST else model.provider
        return name, vendors[name].provider.kind

    return chosen


def _delivery(database: Database) -> Callable[[Sequence[dict[str, Any]]], Awaitable[None]]:
    async def deliver(rows: Sequence[dict[str, Any]]) -> None:
        await database.write(lambda conn: usage_log.add(conn, rows))

    return deliver


def _not_kept(_words: str) -> str:
    return "(not kept: privacy.store_prompts)"


def _keeper(how: str, pepper: bytes) -> Callable[[ImageRequest], dict[str, Any]]:
    """What the database may keep of a request, by `privacy.store_prompts`."""

    def keep(request: ImageRequest) -> dict[str, Any]:
        name = request.model.roles.prompt
        if how == "full":
            return dict(request.parameters)
        kept = {key: value for key, value in request.parameters.items() if key != name}
        if how == "hash":
            kept[f"{name}_hash"] = hmac.digest(pepper, request.prompt.encode(), hashlib.sha256).hex()
        return kept

    return keep


async def _retain(cache: CacheAdministration, settings: Settings) -> None:
    """Apply retention for ever; what fails is tried again."""
    retention = settings.retention
    while True:
        try:
            await cache.apply_retention(images_days=retention.images_days, requests_days=retention.requests_days)
        except Exception:  # noqa: BLE001  (whatever it was, the next round is owed its turn)
            _log.exception("retention_failed")
        await asyncio.sleep(_RETENTION_PERIOD_S)
