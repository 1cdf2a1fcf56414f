"""Overview, usage, calls, limits: who spends what, and what the cache saved."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from starlette.responses import Response

from gateway.console.charts import spend_chart
from gateway.console.page import Page, View, whole_number
from gateway.console.periods import PRESETS, Period, read_period

_TOP = 6
_GROUPS = {
    "user": "User",
    "team": "Team",
    "key": "Key",
    "model": "Model",
    "provider": "Provider",
}
_SHOWN_ROWS = 200
OUTCOMES = ("hit", "joined", "repeated", "bought", "refused", "failed", "settlement", "adjustment")
STATUSES = (("", "Any"), ("2xx", "Answered"), ("4xx", "Refused (4xx)"), ("5xx", "Failed (5xx)"))
FILTERS = ("user_id", "team_id", "key_id", "model", "provider")


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


# -- overview ---------------------------------------------------------------------------------------------------------


async def overview(page: Page) -> Response:
    period = read_period(page.query, now())
    report, before, near, health, grouped = await asyncio.gather(
        _usage(page, period, bucket=period.bucket),
        page.api.get("/admin/v1/usage", mode=page.mode, **period.range_before),
        page.api.get("/admin/v1/limits", mode=page.mode, near=80, limit=_TOP),
        _health(page),
        _usage(page, period, group_by="user,team,model"),  # one look at the totals in place of three
    )
    ranked = {group: _ranked(grouped["data"], group)[:_TOP] for group in ("user", "team", "model")}
    names = await page.api.names([top.id for group in ("user", "team") for top in ranked[group]])
    return page.show(
        "overview.html",
        period=period,
        presets=PRESETS,
        total=report["total"],
        before=before["total"],
        chart=spend_chart(period.buckets(), report["data"], period.bucket),
        buckets=report["data"],
        ranked=ranked,
        names=names,
        near=near["data"],
        health=health,
    )


async def _health(page: Page) -> Sequence[Mapping[str, Any]] | None:
    """Providers with their keys; None where the role does not see them."""
    if not page.may("see_all"):
        return None
    providers = (await page.api.get("/admin/v1/providers"))["data"]
    keys = await asyncio.gather(*(page.api.get(f"/admin/v1/providers/{each['name']}/keys") for each in providers))
    return [{**each, "list": found["data"]} for each, found in zip(providers, keys, strict=True)]


async def _usage(page: Page, period: Period, **asked: str) -> Any:
    return await page.api.get("/admin/v1/usage", mode=page.mode, **period.range, **asked)


class Top(NamedTuple):
    """Who spent or saved much. Dollars."""

    id: str
    cost_usd: Decimal
    saved_usd: Decimal
    requests: int


def _ranked(rows: Iterable[Mapping[str, Any]], group: str) -> list[Top]:
    """Those that spent or saved, most first; what belongs to none of the group is left out."""
    sums: dict[str, Top] = {}
    for row in rows:
        if (name := row["group"][group]) is not None:
            so_far = sums.get(name, Top(name, Decimal(0), Decimal(0), 0))
            sums[name] = Top(
                name,
                so_far.cost_usd + Decimal(row["cost_usd"]),
                so_far.saved_usd + Decimal(row["saved_usd"]),
                so_far.requests + row["requests"],
            )
    return sorted(sums.values(), key=lambda top: (top.cost_usd, top.saved_usd, top.requests), reverse=True)


# -- usage ------------------------------------------------------------------------------------------------------------


async def usage(page: Page) -> Response:
    period = read_period(page.query, now())
    group = page.query.get("group", "user")
    asked = _asked(page)
    if group not in {*_GROUPS, "time"} and not (group.startswith("tag:") and len(group) > len("tag:")):
        group = "user"
    if page.query.get("format") == "csv":
        return await _csv(page, period, group, asked)
    tags, over_time, grouped = await asyncio.gather(
        page.api.get("/admin/v1/tags", mode=page.mode),
        _usage(page, period, bucket=period.bucket, **asked),
        _usage(page, period, group_by=group, **asked) if group != "time" else _nothing(),
    )
    rows = sorted(grouped["data"], key=lambda row: (Decimal(row["cost_usd"]), row["requests"]), reverse=True)
    shown = over_time["data"] if group == "time" else rows[:_SHOWN_ROWS]
    wanted = [asked.get(name) for name in ("user_id", "team_id", "key_id")]
    if group in {"user", "team", "key"}:
        wanted += [row["group"][group] for row in shown]
    return page.show(
        "usage.html",
        period=period,
        presets=PRESETS,
        group=group,
        groups=_choices(group, [each["tag"] for each in tags["data"]]),
        asked=asked,
        total=over_time["total"],
        chart=spend_chart(period.buckets(), over_time["data"], period.bucket),
        rows=shown,
        left_out=max(0, len(rows) - _SHOWN_ROWS),
        names=await page.api.names(wanted),
    )


def _choices(group: str, tags: Sequence[str]) -> list[tuple[str, str]]:
    """What usage can be grouped by; a tag that the address names is among them, though no call carries it."""
    named = dict.fromkeys([*tags, *([group.removeprefix("tag:")] if group.startswith("tag:") else [])])
    return [*_GROUPS.items(), ("time", "Time"), *((f"tag:{tag}", f"Tag {tag}") for tag in named)]


async def _nothing() -> dict[str, Any]:
    return {"data": []}


def _asked(page: Page) -> dict[str, str]:
    """The restrictions that the address names."""
    found = {name: page.query[name] for name in FILTERS if page.query.get(name)}
    if page.query.get("tag"):
        found["tag"] = page.query["tag"]
    return found


async def _csv(page: Page, period: Period, group: str, asked: Mapping[str, str]) -> Response:
    """The report by group and day, as the API writes it."""
    range_ = {"from": period.range["from_"], "to": period.range["to"]}
    grouping = {} if group == "time" else {"group_by": group}
    answer = await page.api.call(
        "GET",
        "/admin/v1/usage",
        params={"mode": page.mode, "bucket": period.bucket, **range_, **grouping, **asked},
        headers={"accept": "text/csv"},
    )
    name = f"darkroom-usage-{page.mode}-{period.start:%Y%m%d}-{period.end:%Y%m%d}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(answer.content, media_type="text/csv", headers=headers)


# -- calls ------------------------------------------------------------------------------------------------------------


async def calls(page: Page) -> Response:
    period = read_period(page.query, now(), default="7d")
    asked = _asked(page)
    found = await page.api.get(
        "/admin/v1/requests",
        mode=page.mode,
        limit=50,
        cursor=page.query.get("cursor"),
        outcome=page.query.get("outcome"),
        status_class=page.query.get("status"),
        code=page.query.get("code"),
        generation_id=page.query.get("generation_id"),
        **period.range,
        **asked,
    )
    ids = [row[name] for row in found["data"] for name in ("user_id", "key_id")]
    return page.show(
        "calls.html",
        period=period,
        presets=PRESETS,
        rows=found["data"],
        cursor=found["next_cursor"],
        asked=asked,
        outcome_choices=[(name, name) for name in OUTCOMES],
        statuses=STATUSES,
        names=await page.api.names([*ids, *asked.values()]),
    )


# -- limits -----------------------------------------------------------------------------------------------------------


async def limits(page: Page) -> Response:
    near = page.query.get("near", "")
    if near:
        whole_number("near", near, "80")
    found = await page.api.get("/admin/v1/limits", mode=page.mode, near=near, limit=200, scope=page.query.get("scope"))
    return page.show("limits.html", limits=found["data"], near=near)


VIEWS = [
    View("overview", overview),
    View("usage", usage),
    View("calls", calls),
    View("limits", limits),
]
