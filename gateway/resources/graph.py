"""What the graph is made of, as the API sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.config import Settings
from gateway.domain.model import Model
from gateway.services.accounts import AccountService
from gateway.services.administrators import Administrators
from gateway.services.admission import Admission
from gateway.services.alerts import Alerts
from gateway.services.budgets import Budgets
from gateway.services.cache_administration import CacheAdministration
from gateway.services.callers import CallerDirectory
from gateway.services.declarations import DeclarationService
from gateway.services.deliveries import Deliveries
from gateway.services.erasure import Erasure
from gateway.services.generate_image import ImageGenerator
from gateway.services.limit_usage import LimitUsage
from gateway.services.pictures import Pictures
from gateway.services.provider_keys import ProviderKeys
from gateway.services.purchases import Purchases
from gateway.services.readiness import Readiness
from gateway.services.receipts import ImageGallery, Receipts
from gateway.services.reconcile import Reconciler
from gateway.services.sessions import Sessions
from gateway.services.settlement import Settlement
from gateway.services.statements import Statements
from gateway.services.thumbnails import Thumbnails
from gateway.services.usage import UsageRecorder
from gateway.services.usage_reports import UsageReports
from gateway.services.webhooks import Webhooks
from gateway.storage.database import Database
from gateway.telemetry.tracing import Tracing


@dataclass(frozen=True)
class Resources:
    """What the API works with. `test_key` is the ready key of an embedded first start."""

    settings: Settings
    models: Mapping[str, Model]
    test_key: str | None
    render_metrics: Callable[[], bytes]
    administrators: Administrators
    sessions: Sessions
    accounts: AccountService
    declarations: DeclarationService
    callers: CallerDirectory
    admission: Admission
    generator: ImageGenerator
    usage: UsageRecorder
    budgets: Budgets
    limit_usage: LimitUsage
    alerts: Alerts
    webhooks: Webhooks
    deliveries: Deliveries
    reports: UsageReports
    statements: Statements
    receipts: Receipts
    gallery: ImageGallery
    pictures: Pictures
    thumbnails: Thumbnails
    cache: CacheAdministration
    erasure: Erasure
    provider_keys: ProviderKeys
    settlement: Settlement
    reconciler: Reconciler
    purchases: Purchases
    database: Database
    tracing: Tracing
    readiness: Readiness
