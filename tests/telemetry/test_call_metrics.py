"""Counts of calls as Prometheus reads them."""

from __future__ import annotations

from gateway.telemetry.metrics import Metrics


def shown(metrics: Metrics) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_calls_are_counted_by_outcome_model_and_mode_and_savings_in_dollars():
    metrics = Metrics()
    metrics.calls.count("hit", "flux-pro", "live", latency_us=100, saved_micro_usd=65_000)
    metrics.calls.count("hit", "flux-pro", "live", latency_us=100, saved_micro_usd=65_000)
    metrics.calls.count("refused", "", "test", latency_us=100, saved_micro_usd=0)
    found = shown(metrics)
    assert found['darkroom_requests_total{mode="live",model="flux-pro",outcome="hit"}'] == 2
    assert found['darkroom_requests_total{mode="test",model="",outcome="refused"}'] == 1
    assert found['darkroom_saved_usd_total{mode="live",model="flux-pro"}'] == 0.13


def test_a_latency_counts_in_every_bucket_from_its_own_up():
    metrics = Metrics()
    for latency_us in (500, 501, 999_000_000):
        metrics.calls.count("hit", "flux-pro", "live", latency_us=latency_us, saved_micro_usd=0)
    found = shown(metrics)
    buckets = [found[f'darkroom_request_seconds_bucket{{le="{edge}",outcome="hit"}}'] for edge in ("0.0005", "0.001")]
    assert buckets == [1, 2]
    assert found['darkroom_request_seconds_bucket{le="180.0",outcome="hit"}'] == 2
    assert found['darkroom_request_seconds_bucket{le="+Inf",outcome="hit"}'] == 3
    assert found['darkroom_request_seconds_count{outcome="hit"}'] == 3
    assert found['darkroom_request_seconds_sum{outcome="hit"}'] == 999.001001
