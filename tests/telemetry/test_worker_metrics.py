"""Metrics of several processes as one text."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.worker_metrics import FILE, WorkerMetrics


def rendering(count: float, *, extra: bool = False) -> bytes:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ["outcome"], registry=registry).labels('a "quoted" one').inc(count)
    Gauge("open", "Under way.", registry=registry).set(count)
    if extra:
        Gauge("more", "Of one process alone.", registry=registry).set(1)
    return generate_latest(registry)


def test_a_family_stands_once_with_the_samples_of_every_process(tmp_path: Path):
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / FILE).write_bytes(rendering(5, extra=True))
    places = [(number, tmp_path / str(number)) for number in (1, 2, 3)]
    shown = WorkerMetrics(lambda: rendering(2), worker=1, places=lambda: places)().decode()
    families = {family.name: family for family in text_string_to_metric_families(shown)}
    assert {"calls", "open", "more"} <= set(families)
    calls = {sample.labels["worker"]: sample for sample in families["calls"].samples if sample.name == "calls_total"}
    assert {worker: sample.value for worker, sample in calls.items()} == {"1": 2, "2": 5}
    assert {sample.labels["outcome"] for sample in calls.values()} == {'a "quoted" one'}
    assert {(s.labels["worker"], s.value) for s in families["open"].samples} == {("1", 2), ("2", 5)}
    assert shown.count("# HELP calls_total") == 1
