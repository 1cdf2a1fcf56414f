"""The composition root: opens pools, builds the services on them, closes everything in the opposite order.

The one place that sees storage, providers and services together. Web, command line and tests build the same graph.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.config import Settings
from gateway.domain.books import BookEntry
from gateway.resources.builder import Builder
from gateway.resources.databases import open_configured_database
from gateway.resources.graph import Resources
from gateway.resources.image_stores import open_image_store
from gateway.resources.models import served_models
from gateway.resources.vendors import open_sealer, open_vendors
from gateway.services.accounts import AccountService
from gateway.services.administrators import Administrators
from gateway.services.budgets import BudgetLine
from gateway.services.calls import Call, Head
from gateway.services.doctor import Check, Doctor
from gateway.services.generate_image import Delivery, ImageGenerator
from gateway.services.limit_usage import AppliedLimit
from gateway.services.provider_keys import KeyReport, ProviderKeys
from gateway.services.receipts import ImageGallery, Receipt
from gateway.services.reconcile import Reconciliation
from gateway.services.usage_reports import Report, month_start_ms
from gateway.starting import failures_explained
from gateway.storage.alerts import Alert
from gateway.storage.audit import EventFilter
from gateway.storage.data_dir import make_data_dir
from gateway.storage.limits_in_use import LimitInUse
from gateway.storage.migrations import migrate
from gateway.storage.rate_limits import RateState
from gateway.storage.response_cache import PurgeFilter
from gateway.storage.statements import Line as StatementLine
from gateway.storage.statements import Statement
from gateway.storage.webhooks import Delivery as WebhookDelivery
from gateway.storage.webhooks import Webhook

__all__ = [  # with the words of the services that the API speaks
    "AccountService",
    "Administrators",
    "Alert",
    "AppliedLimit",
    "BookEntry",
    "BudgetLine",
    "Call",
    "Check",
    "Delivery",
    "EventFilter",
    "Head",
    "ImageGallery",
    "ImageGenerator",
    "KeyReport",
    "LimitInUse",
    "PurgeFilter",
    "RateState",
    "Receipt",
    "Reconciliation",
    "Report",
    "Resources",
    "Statement",
    "StatementLine",
    "Webhook",
    "WebhookDelivery",
    "examine",
    "migrate_database",
    "month_start_ms",
    "open_resources",
    "served_models",
]


@asynccontextmanager
async def open_resources(settings: Settings, *, worker: int | None = None) -> AsyncIterator[Resources]:
    """Everything, opened and recovered; on the way out open purchases get `drain_s` to finish.

    Raises ConfigurationError when something can't be opened.
    `worker`: which of the processes that share the data folder this one is; None: it is alone.
    """
    async with AsyncExitStack() as stack:
        with failures_explained(settings):
            resources = await Builder(settings, stack, worker=worker).build()
        yield resources


async def migrate_database(settings: Settings) -> None:
    """`darkroom migrate`: the configured database to this version's schema."""
    make_data_dir(settings.data_dir)
    database = open_configured_database(settings)
    try:
        with failures_explained(settings):
            await migrate(database)
    finally:
        await database.close()


async def examine(settings: Settings) -> Sequence[Check]:
    """`darkroom doctor`: what is there and what is wrong. Opens stores and providers to look, not to change.

    Raises ConfigurationError when the models can't be served as configured, or the data folder can't be written.
    """
    served_models(settings)
    make_data_dir(settings.data_dir)
    async with AsyncExitStack() as stack:
        stack.enter_context(failures_explained(settings))
        database = open_configured_database(settings, unhurried=True)
        stack.push_async_callback(database.close)
        vendors = open_vendors(settings)
        keys = ProviderKeys(database, vendors, open_sealer(settings), notify=lambda _kind, _object_id: None)
        for vendor in vendors.values():
            stack.push_async_callback(vendor.provider.close)
        images = open_image_store(settings)
        return await Doctor(database, images, vendors, keys, data_dir=settings.data_dir).examine()
