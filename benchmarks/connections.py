"""Hits at 256 connections: the slowest in a hundred beside the bare app's; and hits from 1 connection to 512.

Every connection sends its next call when its last is answered, so latency at 256 is mostly the others' turns. Load
comes from the own client, which begins once every connection has had an answer: how fast new connections are accepted
is not what is measured here. The plots show throughput against the number of connections, and how the latencies at
256 are spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from benchmarks.hot_hits import alternate, hot_servers
from benchmarks.load import Load, bin_start_us
from benchmarks.rows import Bench, Found, Plot, Row, Series, compared

MANY = 256
STEPS = (1, 8, 32, 128, MANY, 512)
_Runs = tuple[list[Load], list[Load]]


def measure(bench: Bench) -> Found:
    rounds, seconds = (1, 2) if bench.quick else (2, 2)
    with hot_servers(bench.subfolder("connections"), warm_start=True) as hot:
        runs = {
            step: alternate(hot, connections=step, seconds=seconds, rounds=rounds + 3 if step == MANY else rounds)
            for step in STEPS
        }
    return Found([_slowest(*runs[MANY])], [_throughput(runs), _spread(*runs[MANY])])


def _slowest(ours: Sequence[Load], bare: Sequence[Load]) -> Row:
    p99_ms = [r.p99_us / 1000 for r in ours], [r.p99_us / 1000 for r in bare]
    return compared(f"Hit p99, {MANY} connections", *p99_ms, "ms", reach=2.5, aim=1.5)


def _throughput(runs: dict[int, _Runs]) -> Plot:
    def line(name: str, which: int) -> Series:
        points = [(float(step), median(r.per_s for r in found[which])) for step, found in runs.items()]
        return Series(name, points, ours=which == 0)

    return Plot(
        "hits",
        "Hits against connections",
        "Connections",
        "Answers per second",
        [line("Bare ASGI app", 1), line("Darkroom", 0)],
        x_log=True,
        x_ticks=STEPS,
    )


def _spread(ours: Sequence[Load], bare: Sequence[Load]) -> Plot:
    return Plot(
        "latencies",
        f"Latency at {MANY} connections",
        "Latency, ms",
        "Share of answers, %",
        [
            Series("Bare ASGI app", _histogram(bare), ours=False),
            Series("Darkroom", _histogram(ours)),
        ],
        x_log=True,
        bars=True,
    )


def _histogram(loads: Sequence[Load]) -> list[tuple[float, float]]:
    """Left edges in milliseconds and shares in percent; the last is the right edge of what was measured."""
    counts = Counter[int]()
    for load in loads:
        counts.update({int(number): count for number, count in load.bins.items()})
    total = counts.total()
    numbers = range(min(counts), max(counts) + 2)
    return [(bin_start_us(number) / 1000, 100 * counts[number] / total) for number in numbers]
