"""Hits at 32 connections beside a bare ASGI app that sends the same bytes: throughput, CPU, and their usage rows.

Hits per second: the share of the bare app's. CPU: user and system time of the whole process, until the usage rows of
the run are in SQL, for a row that waits is a cost put off. Rows in SQL are those of all rounds beside the hits that the
gateway counted, which are a few more than the load heard of.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.hot_hits import drained_after_s, hot_servers
from benchmarks.load import Generator, Load
from benchmarks.rows import Bench, Found, Row, compared
from benchmarks.servers import Gateway, Server

CONNECTIONS = 32


@dataclass(frozen=True)
class Round:
    """One run against one server. `lag_rows` waited for SQL at its end, for `drained_s`."""

    load: Load
    cpu_us: float
    lag_rows: int = 0
    drained_s: float = 0.0


def measure(bench: Bench) -> Found:
    rounds, seconds = (3, 2) if bench.quick else (5, 4)
    ours, bare = list[Round](), list[Round]()
    with hot_servers(bench.subfolder("hits")) as hot:
        before, counted = _hits_in_sql(hot.gateway), _hits_counted(hot.gateway)
        for _ in range(rounds):
            bare.append(one_round(hot.generator, hot.bare, seconds))
            ours.append(one_round(hot.generator, hot.gateway, seconds))
        in_sql, counted = _hits_in_sql(hot.gateway) - before, _hits_counted(hot.gateway) - counted
    heard = sum(r.load.requests for r in ours)
    if counted < heard:
        raise RuntimeError(f"the gateway counted {counted} hits, and {heard} were answered")
    return Found(_rows(ours, bare, in_sql, counted))


def one_round(generator: Generator, server: Server, seconds: float) -> Round:
    cpu_s = server.cpu_s
    load = generator.run(server.base_url, connections=CONNECTIONS, seconds=seconds)
    lag_rows, drained_s = 0, 0.0
    if isinstance(server, Gateway):
        lag_rows = server.journal_lag_rows()
        drained_s = drained_after_s(server)
    return Round(load, (server.cpu_s - cpu_s) / load.requests * 1e6, lag_rows, drained_s)


def _hits_in_sql(gateway: Gateway) -> int:
    total = gateway.admin("GET", "/usage?mode=live")["total"]
    assert isinstance(total, dict)
    return int(total["hits"])


def _hits_counted(gateway: Gateway) -> int:
    return int(gateway.metric("darkroom_requests_total", 'outcome="hit"'))


def _rows(ours: list[Round], bare: list[Round], in_sql: int, counted: int) -> list[Row]:
    per_s = [r.load.per_s for r in ours], [r.load.per_s for r in bare]
    cpu_us = [r.cpu_us for r in ours], [r.cpu_us for r in bare]
    lag, drained_s = max(r.lag_rows for r in ours), max(r.drained_s for r in ours)
    kept = f"{in_sql:,} rows; at most {lag:,} behind at the end of a run, all there {drained_s:.1f} s later"
    return [
        compared(f"Hits per second, {CONNECTIONS} connections", *per_s, "/s", reach=0.5, aim=0.7, more_is_better=True),
        compared("CPU of a hit, its row in SQL included", *cpu_us, "µs"),
        Row(
            "Usage rows in SQL beside hits",
            in_sql / counted,
            reach=1,
            aim=1,
            more_is_better=True,
            ours=kept,
            yardstick=f"{counted:,} hits",
        ),
    ]
