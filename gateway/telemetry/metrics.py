"""Each metric named once. One registry a process graph, so that tests and embedded uses don't share counts."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.key_metrics import KeyMetrics

_PURCHASE_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180)


class Metrics:
    """What `/metrics` shows. Money is dollars there, as Prometheus' units ask; the ledger stays in integers."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = CallMetrics(registry)
        self.provider_keys = KeyMetrics(registry)
        self.provider_balance_usd = Gauge(
            "darkroom_provider_balance_usd",
            "What is left of the account behind a provider key.",
            ["provider", "key"],
            registry=registry,
        )
        self.purchase_seconds = Histogram(
            "darkroom_purchase_seconds",
            "From sending an order to its answer.",
            ["provider"],
            buckets=_PURCHASE_BUCKETS,
            registry=registry,
        )
        self.cost_usd = Counter(
            "darkroom_cost_usd_total", "Money spent.", ["provider", "model", "mode"], registry=registry
        )
        self.open_purchases = Gauge(
            "darkroom_open_purchases", "Purchases under way in this process.", registry=registry
        )
        self.provider_errors = Counter(
            "darkroom_provider_errors_total",
            "Orders that brought no answer, by kind.",
            ["provider", "kind"],
            registry=registry,
        )
        self.unknown_purchases = Gauge(
            "darkroom_unknown_purchases",
            "Purchases whose outcome is unknown, their money held; the same number in every process.",
            registry=registry,
        )
        self.webhook_deliveries = Counter(
            "darkroom_webhook_deliveries_total",
            "Attempts to tell a webhook: delivered, retried (it failed, and there is another to come) or failed.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("delivered", "retried", "failed"):  # from 0: else the first to fail is no increase
            self.webhook_deliveries.labels(outcome)
        self.journal_lag_rows = Gauge("darkroom_journal_lag_rows", "Usage rows on their way to SQL.", registry=registry)

    def follow_redis(self, is_up: Callable[[], bool]) -> None:
        """Show whether Redis answers. Where there is none nothing is shown: 0 would be an alarm."""
        Gauge("darkroom_redis_up", "Whether Redis answers.", registry=self.registry).set_function(is_up)

    def render(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)
