"""How many provider keys are in which state, read when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.domain.key_health import KeyStatus


class KeyMetrics(Collector):
    """A gauge for each state of each provider with keys, the empty states included."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._pools: dict[str, Callable[[], Iterable[KeyStatus]]] = {}
        registry.register(self)

    def follow(self, provider: str, read: Callable[[], Iterable[KeyStatus]]) -> None:
        """`read` gives the state of each key of `provider` at the time of asking."""
        self._pools[provider] = read

    def collect(self) -> Iterator[Metric]:
        keys = GaugeMetricFamily("darkroom_provider_keys", "Provider keys, by state.", labels=["provider", "state"])
        for provider, read in self._pools.items():
            counts = Counter(read())
            for status in KeyStatus:
                keys.add_metric([provider, status.value], counts[status])
        yield keys
