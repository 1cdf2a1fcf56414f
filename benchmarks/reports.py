"""A month's report by user over ten million usage rows beside the same over ten thousand, over HTTP.

Both gateways get their rows straight into SQL while they are down: 200 users, spread evenly over the last calendar
month, nine hits to one purchase, with the totals by hour, by day and by reused generation that belong to them. The
totals are sums of the rows; the report's own total must be their number. Then both are asked in turn. The figure is
the ratio of the medians of a round.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

import httpx

from benchmarks.calls import MODEL
from benchmarks.rows import Bench, Found, compared
from benchmarks.servers import ADMIN_KEY, Gateway, ProviderServer

FEW = 10_000
USERS = 200
ROUNDS = 7
ASKED = 7
_PRICE = 65_000
_GENERATIONS = 1000

_ROWS = f"""
WITH RECURSIVE call(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM call WHERE n + 1 < :rows),
    place(n, outcome) AS (SELECT n, iif(n / {USERS} % 10, 'hit', 'bought') FROM call)
INSERT INTO usage_log (at_ms, id, mode, key_id, user_id, model, provider, outcome, status, images,
    cost_micro_usd, saved_micro_usd, latency_us, generation_id)
SELECT :from_ms + n * :span_ms / :rows, printf('req_%024d', n), 'live',
    printf('key_%024d', n % {USERS}), printf('user_%024d', n % {USERS}), '{MODEL}', 'aimlapi', outcome, 200, 1,
    iif(outcome = 'bought', {_PRICE}, 0), iif(outcome = 'hit', {_PRICE}, 0), 150,
    printf('gen_%024d', n % {_GENERATIONS})
FROM place
"""
_HOURLY = """
INSERT INTO usage_hourly
SELECT at_ms - at_ms % 3600000, mode, key_id, user_id, '', model, provider, count(*), count(*), sum(outcome = 'hit'), 0,
    sum(outcome = 'bought'), sum(images), 0, sum(cost_micro_usd), sum(saved_micro_usd)
FROM usage_log GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
_DAILY = """
INSERT INTO usage_daily
SELECT hour_ms - hour_ms % 86400000, mode, key_id, user_id, team_id, model, provider, sum(requests), sum(counted),
    sum(hits), sum(joined), sum(generations), sum(images), sum(errors), sum(cost_micro_usd), sum(saved_micro_usd)
FROM usage_hourly GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
_REUSES = """
INSERT INTO reuses
SELECT generation_id, count(*), sum(saved_micro_usd) FROM usage_log WHERE outcome = 'hit' GROUP BY 1
"""


def measure(bench: Bench) -> Found:
    many = 1_000_000 if bench.quick else 10_000_000
    folder = bench.subfolder("reports")
    with ProviderServer(folder / "provider.log") as provider:
        for rows in (FEW, many):
            with Gateway(folder / f"{rows}", provider.base_url):
                pass  # makes the database
            _fill(folder / f"{rows}" / "data" / "darkroom.db", rows)
        with (
            Gateway(folder / f"{FEW}", provider.base_url) as of_few,
            Gateway(folder / f"{many}", provider.base_url) as of_many,
        ):
            few_ms, many_ms = list[float](), list[float]()
            for _ in range(ROUNDS):
                few_ms.append(_median_ms(of_few, FEW))
                many_ms.append(_median_ms(of_many, many))
    name = f"A month's report by user, {many:,} usage rows beside {FEW:,}"
    return Found([compared(name, many_ms, few_ms, "ms", reach=3, aim=1.2)])


def last_month() -> tuple[dt.datetime, dt.datetime]:
    """Its start, and its end, which is the start of this one; UTC."""
    end = dt.datetime.now(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (end - dt.timedelta(days=1)).replace(day=1), end


def _fill(database: Path, rows: int) -> None:
    start, end = last_month()
    from_ms, span_ms = int(start.timestamp()) * 1000, (end - start) // dt.timedelta(milliseconds=1)
    with closing(sqlite3.connect(database, isolation_level=None)) as sql:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-500000", "temp_store=MEMORY"):
            sql.execute(f"PRAGMA {pragma}")
        sql.execute("BEGIN")
        sql.execute(_ROWS, {"rows": rows, "from_ms": from_ms, "span_ms": span_ms})
        for totals in (_HOURLY, _DAILY, _REUSES):
            sql.execute(totals)
        sql.execute("COMMIT")
        sql.execute("PRAGMA journal_mode=WAL")


def _median_ms(gateway: Gateway, rows: int) -> float:
    start, end = last_month()
    month = {"from": start.isoformat(), "to": end.isoformat()}
    asked = {"group_by": "user", "bucket": "month", **month}
    taken_ms = list[float]()
    with httpx.Client(base_url=gateway.base_url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:
        for _ in range(ASKED):
            started = time.perf_counter()
            report = client.get("/admin/v1/usage", params=asked, timeout=60).raise_for_status().json()
            taken_ms.append((time.perf_counter() - started) * 1000)
            if report["total"]["requests"] != rows or len(report["data"]) != USERS:
                raise RuntimeError(f"the report is wrong: {report['total']}, {len(report['data'])} groups")
    return statistics.median(taken_ms)
