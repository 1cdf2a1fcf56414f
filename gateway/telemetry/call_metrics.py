"""Counts of calls, kept as plain numbers until somebody asks.

The client's own counters take a lock and a dozen Python calls each: with three of them a tenth of a hit. Written and
read on the event loop only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS_US = tuple(
    int(seconds * 1_000_000)
    for seconds in (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 2.5, 5, 10, 20, 30, 60, 120, 180)
)
_EDGES = [*(str(edge / 1_000_000) for edge in _BUCKETS_US), "+Inf"]


class CallMetrics(Collector):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._saved_micro_usd: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._seconds: defaultdict[str, _Latencies] = defaultdict(_Latencies)
        registry.register(self)

    def count(self, outcome: str, model: str, mode: str, *, latency_us: int, saved_micro_usd: int) -> None:
        self._calls[outcome, model, mode] += 1
        if saved_micro_usd:
            self._saved_micro_usd[model, mode] += saved_micro_usd
        latencies = self._seconds[outcome]
        latencies.counts[bisect_left(_BUCKETS_US, latency_us)] += 1
        latencies.sum_us += latency_us

    def collect(self) -> Iterator[Metric]:
        calls = CounterMetricFamily("darkroom_requests", "Calls, by outcome.", labels=["outcome", "model", "mode"])
        for name, count in self._calls.items():
            calls.add_metric(name, count)
        yield calls
        saved = CounterMetricFamily(
            "darkroom_saved_usd", "What hits and joins would have cost.", labels=["model", "mode"]
        )
        for place, micro_usd in self._saved_micro_usd.items():
            saved.add_metric(place, micro_usd / 1_000_000)
        yield saved
        seconds = HistogramMetricFamily("darkroom_request_seconds", "From the call to its answer.", labels=["outcome"])
        for outcome, latencies in self._seconds.items():
            buckets = list(zip(_EDGES, accumulate(latencies.counts), strict=True))
            seconds.add_metric([outcome], buckets, latencies.sum_us / 1_000_000)
        yield seconds


class _Latencies:
    """How many fell up to each edge and not up to the one before."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * len(_EDGES)
        self.sum_us = 0
