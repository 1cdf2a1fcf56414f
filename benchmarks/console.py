"""What the console reads, over a million usage rows and 20,000 pictures (`console_rows`), each answer's median and p95.

The database is written while the gateway is down, and what reports say of it is compared with what was written. Then
each answer is asked for by one client, one after the other; the first time of each is left out, it fills caches that
a page's second visitor finds full. Thumbnails are the exception: cold ones are each made for the first time. Pages are
measured the same way, beside a static page of 60 kB from a bare server.
"""

from __future__ import annotations

import datetime as dt
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.bare_app import keep_answer
from benchmarks.console_rows import RARE_MODEL, WORDS, Filled, fill
from benchmarks.rows import Bench, Found, Row
from benchmarks.servers import ADMIN_KEY, Gateway, ProviderServer, bare_server

_STATIC_BYTES = 60_000
_API_REACH_MS, _API_AIM_MS = 200, 75
_PAGE_REACH_MS, _PAGE_AIM_MS = 300, 150
_THUMBNAILS = 60


def measure(bench: Bench) -> Found:
    folder = bench.subfolder("console")
    with ProviderServer(folder / "provider.log") as provider:
        gateway = Gateway(folder / "gateway", provider.base_url)
        with gateway:
            pass  # makes the database
        calls, pictures = (100_000, 2000) if bench.quick else (1_000_000, 20_000)
        filled = fill(folder / "gateway" / "data", calls=calls, pictures=pictures)
        with Gateway(folder / "gateway", provider.base_url) as gateway:
            times = 5 if bench.quick else 21
            rows = [*_answers(gateway, filled, times), *_thumbnails(gateway), *_pages(gateway, folder, filled, times)]
    return Found(rows)


def _answers(gateway: Gateway, filled: Filled, times: int) -> Iterator[Row]:
    size = f"{filled.calls:,} usage rows, {filled.pictures:,} pictures"
    with _client(gateway) as client:
        _check(client, filled)
        for name, path, params in _questions(filled):
            taken_ms = _taken_ms(client, f"/admin/v1{path}", params, times)
            yield _row(f"Console: {name}", taken_ms, reach=_API_REACH_MS, aim=_API_AIM_MS, said=size)


def _questions(filled: Filled) -> list[tuple[str, str, dict[str, Any]]]:
    """What pages are made of; the ones that find nothing are the dear ones."""
    quarter = {"from": _iso(filled.from_ms), "to": _iso(filled.to_ms + 86_400_000)}
    month = {"from": _iso(filled.to_ms - 30 * 86_400_000), "to": quarter["to"]}
    user, team, seed = f"user_{7:024d}", f"team_{7:024d}", filled.calls // 10 - 5
    return [
        ("spend by day, a quarter", "/usage", {"bucket": "day", **quarter}),
        ("spend by user, a quarter", "/usage", {"group_by": "user", **quarter}),
        ("spend by user, a month", "/usage", {"group_by": "user", **month}),
        ("spend by a tag, a quarter", "/usage", {"group_by": "tag:app", **quarter}),
        ("spend by a tag and day, a month", "/usage", {"group_by": "tag:app", "bucket": "day", **month}),
        ("spend with a tag by user, a quarter", "/usage", {"group_by": "user", "tag": "app:app3", **quarter}),
        ("names of tags", "/tags", {}),
        ("pictures, newest", "/pictures", {"limit": 60}),
        ("pictures by words, some", "/pictures", {"limit": 60, "q": WORDS[3]}),
        ("pictures by words, none", "/pictures", {"limit": 60, "q": "zeppelin"}),
        ("pictures by seed", "/pictures", {"limit": 60, "seed": seed}),
        ("pictures of a user", "/pictures", {"limit": 60, "user_id": user}),
        ("pictures of a team", "/pictures", {"limit": 60, "team_id": team}),
        ("calls, newest", "/requests", {"mode": "live"}),
        ("calls of a team", "/requests", {"mode": "live", "team_id": team}),
        ("calls of a rare model", "/requests", {"model": RARE_MODEL}),
        ("calls that failed", "/requests", {"status_class": "5xx"}),
        ("calls with a code that never was", "/requests", {"code": "nothing"}),
        ("calls with a rare tag", "/requests", {"mode": "live", "tag": "app:rare"}),
        ("limits, the fullest", "/limits", {}),
        ("limits of a user", f"/users/{user}/limits/usage", {}),
        ("alerts", "/alerts", {}),
        ("a receipt", f"/generations/gen_{seed:024d}/receipt", {}),
    ]


def _check(client: httpx.Client, filled: Filled) -> None:
    """Totals by whatever way are the rows that were written."""
    span = {"from": _iso(filled.from_ms - 1000), "to": _iso(filled.to_ms + 1000)}
    for params in ({}, {"group_by": "tag:app"}, {"group_by": "team,model", "bucket": "day"}):
        found = sum(
            client.get("/admin/v1/usage", params={**span, **params, "mode": mode})
            .raise_for_status()
            .json()["total"]["requests"]
            for mode in ("live", "test")
        )
        if found != filled.calls:
            raise RuntimeError(f"the report by {params or 'nothing'} counts {found:,} calls of {filled.calls:,}")


def _thumbnails(gateway: Gateway) -> Iterator[Row]:
    """Of different pictures: made for the first time, then from their files."""
    with _client(gateway) as client:
        rows = client.get("/admin/v1/pictures", params={"limit": _THUMBNAILS}).raise_for_status().json()["data"]
        for name in ("cold", "warm"):
            taken_ms = [_once_ms(client, f"/admin/v1/images/{row['image_id']}/thumbnail", {}) for row in rows]
            yield _row(f"Console: a thumbnail, {name}", taken_ms, reach=_API_REACH_MS, aim=_API_AIM_MS)


def _pages(gateway: Gateway, folder: Path, filled: Filled, times: int) -> Iterator[Row]:
    answer = folder / "static"
    keep_answer(answer, [("content-type", "text/html"), ("content-length", str(_STATIC_BYTES))], b"x" * _STATIC_BYTES)
    with bare_server(answer, folder / "static.log") as bare, httpx.Client(base_url=bare.base_url) as static:
        beside_ms = statistics.median(_taken_ms(static, "/", {}, times))
    with httpx.Client(base_url=gateway.base_url, timeout=60) as client:
        _sign_in(client)
        for path in _addresses(filled):
            taken_ms = _taken_ms(client, f"/console/live/{path}", {}, times)
            said = f"{beside_ms:.1f} ms for a static page"
            yield _row(f"Page {path}", taken_ms, reach=_PAGE_REACH_MS, aim=_PAGE_AIM_MS, yardstick=said)


def _addresses(filled: Filled) -> list[str]:
    """Every page, and of those with filters the dear ones."""
    user, team, seed = f"user_{7:024d}", f"team_{7:024d}", filled.calls // 10 - 5
    lists = ("limits", "statements", "playground", "teams", "users", "keys", "administrators", "providers", "purchases")
    return [
        "overview?period=90d",
        "usage?period=90d",
        "usage?period=90d&group=tag:app",
        "usage?period=90d&tag=app:app3",
        "calls?period=90d",
        f"calls?period=90d&team_id={team}",
        "calls?period=90d&tag=app:rare",
        "calls?period=90d&status=5xx",
        "gallery",
        f"gallery?q={WORDS[3]}",
        "gallery?q=zeppelin",
        f"gallery/gen_{seed:024d}",
        f"teams/{team}",
        f"users/{user}",
        *lists,
        "users?q=7",
        "alerts",
        "audit",
    ]


def _sign_in(client: httpx.Client) -> None:
    answer = client.post("/console/sign-in", data={"key": ADMIN_KEY})
    if answer.status_code != httpx.codes.SEE_OTHER:
        raise RuntimeError(f"the console let nobody in: {answer.text[:200]}")


def _client(gateway: Gateway) -> httpx.Client:
    return httpx.Client(base_url=gateway.base_url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=60)


def _taken_ms(client: httpx.Client, path: str, params: dict[str, Any], times: int) -> list[float]:
    _once_ms(client, path, params)
    return [_once_ms(client, path, params) for _ in range(times)]


def _once_ms(client: httpx.Client, path: str, params: dict[str, Any]) -> float:
    started = time.perf_counter()
    client.get(path, params=params or None).raise_for_status()  # none at all: they would replace those of the path
    return (time.perf_counter() - started) * 1000


def _row(name: str, taken_ms: Sequence[float], *, reach: float, aim: float, said: str = "", yardstick: str = "") -> Row:
    p95 = sorted(taken_ms)[int(len(taken_ms) * 0.95)]
    ours = f"p95 {p95:.1f} ms" + (f"; {said}" if said else "")
    return Row(name, statistics.median(taken_ms), "ms", reach=reach, aim=aim, ours=ours, yardstick=yardstick)


def _iso(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat()
