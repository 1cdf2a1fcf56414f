"""Hits beside a bare ASGI app that sends the same bytes: throughput, CPU, the slowest in a hundred; and their rows.

One key, two rolling limits, a hundred pictures asked in turn. Server and load are kept to cores of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.bare_app import keep_answer
from benchmarks.load import PATH, Generator, Load
from benchmarks.report import Row, median_ratio
from benchmarks.servers import MODEL, Gateway, Server, bare_server

CONNECTIONS = 32
ROUNDS = 5
ROUND_S = 4.0
PICTURES = 100
_LAG_WITHIN_S = 30.0


@dataclass(frozen=True)
class Round:
    """One run against one server. `lag_rows` waited for SQL at its end, for `drained_s`."""

    load: Load
    cpu_us: float
    lag_rows: int = 0
    drained_s: float = 0.0


def measure(folder: Path, gateway: Gateway, key: str) -> list[Row]:
    bodies = folder / "bodies"
    wanted = [_body(seed) for seed in range(1, PICTURES + 1)]
    bodies.write_text("\n".join(map(json.dumps, wanted)), encoding="utf-8")
    _fill(gateway, key, wanted)
    answer = folder / "answer"
    hit = httpx.post(gateway.base_url + PATH, json=wanted[0], headers={"Authorization": f"Bearer {key}"})
    keep_answer(answer, hit.headers.multi_items(), hit.content)
    served, load = cores()
    generator = Generator(folder, bodies, key, load)
    ours, bare = list[Round](), list[Round]()
    with bare_server(answer, folder / "bare.log").on(served) as yardstick:
        for server in (yardstick, gateway):
            generator.run(server.base_url, connections=CONNECTIONS, seconds=2)
        _drained_after_s(gateway)
        before = _hits_in_sql(gateway)
        for _ in range(ROUNDS):
            bare.append(_round(generator, yardstick))
            ours.append(_round(generator, gateway))
    return _rows(ours, bare, _hits_in_sql(gateway) - before)


def cores() -> tuple[set[int] | None, set[int] | None]:
    """One core for the server measured, the rest for the load. None on a machine of one core."""
    every = sorted(os.sched_getaffinity(0))
    return ({every[0]}, set(every[1:])) if len(every) > 1 else (None, None)


def _body(seed: int) -> dict[str, object]:
    size = {"width": 512, "height": 512}
    return {"model": MODEL, "prompt": f"A lighthouse at dawn, number {seed}", "seed": seed, "image_size": size}


def _fill(gateway: Gateway, key: str, bodies: list[dict[str, object]]) -> None:
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        for body in bodies:
            client.post(gateway.base_url + PATH, json=body).raise_for_status()


def _round(generator: Generator, server: Server) -> Round:
    """CPU counts until the rows of the run are in SQL: a row that waits is a cost put off."""
    cpu_s = server.cpu_s
    load = generator.run(server.base_url, connections=CONNECTIONS, seconds=ROUND_S)
    lag_rows, drained_s = 0, 0.0
    if isinstance(server, Gateway):
        lag_rows = server.journal_lag_rows()
        drained_s = _drained_after_s(server)
    return Round(load, (server.cpu_s - cpu_s) / load.requests * 1e6, lag_rows, drained_s)


def _drained_after_s(gateway: Gateway) -> float:
    started = time.monotonic()
    while gateway.journal_lag_rows():
        if time.monotonic() - started > _LAG_WITHIN_S:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic() - started


def _hits_in_sql(gateway: Gateway) -> int:
    total = gateway.admin("GET", "/usage?mode=live")["total"]
    assert isinstance(total, dict)
    return int(total["hits"])


def _rows(ours: list[Round], bare: list[Round], in_sql: int) -> list[Row]:
    def compared(name: str, unit: str, values: tuple[list[float], list[float]], reach: str) -> Row:
        mine, theirs = values
        each = [a / b for a, b in zip(mine, theirs, strict=True)]
        ours_shown, theirs_shown = (f"{statistics.median(some):,.4g} {unit}" for some in values)
        return Row(name, ours_shown, theirs_shown, ratio=median_ratio(mine, theirs), rounds=each, reach=reach)

    per_s = [r.load.per_s for r in ours], [r.load.per_s for r in bare]
    cpu = [r.cpu_us for r in ours], [r.cpu_us for r in bare]
    p99 = [r.load.p99_us / 1000 for r in ours], [r.load.p99_us / 1000 for r in bare]
    produced = sum(r.load.requests for r in ours)
    lag = max(r.lag_rows for r in ours)
    drained = f"{in_sql:,} rows; at most {lag:,} behind at the end of a run, all there {_worst_drain(ours):.1f} s later"
    return [
        compared("Hits per second", "/s", per_s, ">= 0.50"),
        compared("CPU per hit, its row in SQL included", "µs", cpu, ""),
        compared(f"Hit p99 at {CONNECTIONS} connections", "ms", p99, ""),
        Row("Usage rows in SQL beside hits", drained, f"{produced:,} hits", in_sql / produced, reach="1.00, keeps up"),
    ]


def _worst_drain(rounds: list[Round]) -> float:
    return max(r.drained_s for r in rounds)
