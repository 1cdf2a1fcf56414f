"""Hits with a million entries in the cache beside hits with a thousand, the same hot thousand asked of both.

A gateway buys the hot thousand. Its data are copied, and the copy gets the other 999,000 straight into SQL: clones of
the hot ones with fingerprints, generations and times of their own, as the gateway would have written them. Then both
run, and are asked in turn over one connection. First each of the thousand once, 200 a round: memory holds none of them
then, so every answer comes from SQL. Then they are hot, and are asked all in each round. The figures are ratios of the
medians of a round.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.calls import bodies
from benchmarks.crowd import Crowd
from benchmarks.hot_hits import drained_after_s
from benchmarks.load import call_headers
from benchmarks.own_client import is_whole, request_bytes
from benchmarks.rows import Bench, Found, Row, compared
from benchmarks.servers import Gateway, ProviderServer

HOT = 1000
ROUNDS = 7
_BATCH = 100
_COLD_BATCH = 200

_CLONE = """
WITH RECURSIVE clone(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM clone WHERE n < :count)
INSERT INTO cache_entries (fingerprint, generation_id, mode, model, user_id, answer, created_ms, expires_ms)
SELECT lower(hex(randomblob(32))), printf('gen_%024d', n), mode, model, user_id,
    CAST(replace(CAST(answer AS TEXT), generation_id, printf('gen_%024d', n)) AS BLOB), created_ms - n, expires_ms
FROM clone JOIN hot ON hot.number = n % (SELECT count(*) FROM hot)
"""


def measure(bench: Bench) -> Found:
    entries = 100_000 if bench.quick else 1_000_000
    folder = bench.subfolder("entries")
    with ProviderServer(folder / "provider.log") as provider:
        few_folder, many_folder = folder / "few", folder / "many"
        with Gateway(few_folder, provider.base_url) as gateway:
            key = gateway.new_key()
            for start in range(1, HOT + 1, _BATCH):
                with Crowd(gateway.base_url, bodies(range(start, start + _BATCH)), key, folder) as crowd:
                    crowd.answers()
        shutil.copytree(few_folder, many_folder)
        _clone_entries(many_folder / "data" / "darkroom.db", entries - HOT)
        with Gateway(few_folder, provider.base_url) as few, Gateway(many_folder, provider.base_url) as many:
            rows = _compare(few, many, entries, key)
    return Found(rows)


def _clone_entries(database: Path, count: int) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as sql:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY"):
            sql.execute(f"PRAGMA {pragma}")
        sql.execute("CREATE TEMP TABLE hot AS SELECT row_number() OVER () - 1 AS number, * FROM cache_entries")
        sql.execute("CREATE UNIQUE INDEX temp.hot_number ON hot (number)")
        sql.execute("BEGIN")
        sql.execute(_CLONE, {"count": count})
        sql.execute("COMMIT")
        sql.execute("PRAGMA journal_mode=WAL")


def _compare(few: Gateway, many: Gateway, entries: int, key: str) -> list[Row]:
    for gateway, expected in ((few, HOT), (many, entries)):
        found = gateway.admin("GET", "/cache")["entries"]
        if found != expected:
            raise RuntimeError(f"{found} entries, not {expected}")
    headers = call_headers(key, {})
    requests = [request_bytes(json.dumps(body), headers) for body in bodies(range(1, HOT + 1))]
    cold, hot = _Medians([], []), _Medians([], [])
    for start in range(0, HOT, _COLD_BATCH):
        cold.ask(few, many, requests[start : start + _COLD_BATCH])
    for _ in range(ROUNDS):
        hot.ask(few, many, requests)
    return [
        compared(f"Hit p50, {entries:,} entries beside {HOT:,}", hot.many_us, hot.few_us, "µs", reach=1.3, aim=1.1),
        compared("The same, of entries that memory does not hold", cold.many_us, cold.few_us, "µs"),
    ]


@dataclass
class _Medians:
    """Microseconds a hit, of each round."""

    few_us: list[float]
    many_us: list[float]

    def ask(self, few: Gateway, many: Gateway, requests: list[bytes]) -> None:
        self.few_us.append(_median_us(few, requests))
        self.many_us.append(_median_us(many, requests))


def _median_us(gateway: Gateway, requests: list[bytes]) -> float:
    """Of asking each once, one after the other. Raises RuntimeError for an answer that is no hit."""
    taken_us = list[float]()
    with socket.create_connection(("127.0.0.1", urlsplit(gateway.base_url).port or 0)) as connection:
        for request in requests:
            started = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(65_536)
            while not is_whole(answer):
                answer += connection.recv(65_536)
            taken_us.append((time.perf_counter() - started) * 1e6)
            if b"darkroom; hit" not in answer:
                raise RuntimeError(f"no hit: {answer!r}")
    drained_after_s(gateway)
    return statistics.median(taken_us)
