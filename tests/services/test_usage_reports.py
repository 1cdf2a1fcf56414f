"""Reports: groups, steps of time, and totals, on both engines."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from gateway.domain.usage_row import UsageRow
from gateway.errors import InvalidRequest
from gateway.services.usage_reports import Report, UsageReports, month_start_ms
from gateway.storage import usage_log
from gateway.storage.database import Database
from tests.support.ledger import PRICE, usage_row


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp()) * 1000


class Reports:
    """Rows wait, as in the journal, until a report flushes them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[UsageRow] = []
        self._reports = UsageReports(database, flush=self._flush)
        self.requests = self._reports.requests
        self.tags = self._reports.tags

    def add(self, when: str, **changes: Any) -> None:
        self._waiting.append(usage_row(at_ms=at(when), **changes))

    async def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        await self._database.write(lambda conn: usage_log.add(conn, rows))

    async def of(self, *group_by: str, **options: Any) -> Report:
        asked: dict[str, Any] = {"mode": "live", "from_ms": at("2026-01-01"), "to_ms": at("2027-01-01")} | options
        return await self._reports.report(group_by=group_by, **asked)


@pytest.fixture
def reports(database: Database) -> Reports:
    return Reports(database)


def shown(report: Report, name: str = "requests") -> list[tuple[Any, ...]]:
    return [(row.bucket_ms, *row.group.values(), row.sums[name]) for row in report.rows]


async def test_a_report_misses_none_of_the_calls_before_it(reports: Reports):
    reports.add("2026-03-01T10:00")
    report = await reports.of()
    assert report.total == {
        "requests": 1, "hits": 0, "joined": 0, "generations": 0, "images": 1, "errors": 0,
        "cost_micro_usd": PRICE, "saved_micro_usd": 0,
    }  # fmt: skip
    assert [row.sums for row in report.rows] == [report.total]


async def test_nothing_is_a_report_of_zeros(reports: Reports):
    report = await reports.of("user")
    assert (list(report.rows), set(report.total.values())) == ([], {0})


@pytest.mark.parametrize(
    ("bucket", "steps"),
    [
        ("hour", ["2026-01-31T22:00", "2026-01-31T23:00", "2026-02-01T00:00"]),
        ("day", ["2026-01-31", "2026-02-01"]),
        ("month", ["2026-01-01", "2026-02-01"]),
    ],
)
@pytest.mark.parametrize("to", ["2026-03-01", "2026-03-01T00:00:01"])
async def test_steps_of_time_begin_with_the_utc_hour_day_and_month(
    reports: Reports, bucket: Any, steps: list[str], to: str
):
    for when in ("2026-01-31T22:30", "2026-01-31T23:59:59", "2026-02-01"):
        reports.add(when)
    report = await reports.of(bucket=bucket, to_ms=at(to))
    assert [row.bucket_ms for row in report.rows] == [at(step) for step in steps]
    assert report.total["requests"] == 3


async def test_days_of_a_month_come_together_in_one_row(reports: Reports):
    for day in range(1, 29):
        reports.add(f"2026-02-{day:02}", user_id=f"user_{day % 2}")
    report = await reports.of("user", bucket="month")
    assert shown(report) == [(at("2026-02-01"), "user_0", 14), (at("2026-02-01"), "user_1", 14)]


async def test_groups_by_tag_and_label_leave_out_no_call(reports: Reports):
    reports.add("2026-01-05", tags={"app": "a", "env": "x"}, labels={"cc": "1"})
    reports.add("2026-01-05", tags={"app": "a", "env": "y"}, labels={"cc": "2"})
    reports.add("2026-01-05", tags={"app": "b"}, labels={"cc": "1"})
    reports.add("2026-01-05")
    assert shown(await reports.of("tag:app")) == [(None, "a", 2), (None, "b", 1), (None, None, 1)]
    both = shown(await reports.of("label:cc", "tag:app", "user"))
    assert both == [
        (None, "1", "a", "user_1", 1),
        (None, "1", "b", "user_1", 1),
        (None, "2", "a", "user_1", 1),
        (None, None, None, "user_1", 1),
    ]
    assert (await reports.of("tag:none")).total["requests"] == 4


async def test_a_tag_named_twice_in_groups_of_other_tags_is_summed_once(reports: Reports):
    for env in "xyz":
        reports.add("2026-01-05", tags={"app": "a", "env": env})
    report = await reports.of("tag:app", bucket="day")
    assert shown(report, "cost_micro_usd") == [(at("2026-01-05"), "a", 3 * PRICE)]


async def test_a_report_of_one_tags_calls_by_what_else_there_is(reports: Reports):
    reports.add("2026-01-05", tags={"app": "a", "env": "x"}, labels={"cc": "1"})
    reports.add("2026-01-06", tags={"app": "a"}, user_id="user_2")
    reports.add("2026-01-06", tags={"app": "b", "env": "x"})
    only_a = {"tag": ("app", "a")}
    assert (await reports.of(**only_a)).total["requests"] == 2
    assert shown(await reports.of("user", **only_a)) == [(None, "user_1", 1), (None, "user_2", 1)]
    assert shown(await reports.of("tag:app", bucket="month", **only_a)) == [(at("2026-01-01"), "a", 2)]
    assert shown(await reports.of("tag:env", **only_a)) == [(None, "x", 1), (None, None, 1)]
    assert shown(await reports.of("label:cc", **only_a)) == [(None, "1", 1), (None, None, 1)]
    assert shown(await reports.of("tag:app", "label:cc", **only_a)) == [(None, "a", "1", 1), (None, "a", None, 1)]
    assert await reports.tags("live") == {"app": 2, "env": 1}


async def test_a_report_is_of_one_mode_and_what_it_is_restricted_to(reports: Reports):
    reports.add("2026-01-05")
    reports.add("2026-01-05", mode="test")
    reports.add("2026-01-05", user_id="user_2")
    assert (await reports.of(mode="test")).total["requests"] == 1
    assert shown(await reports.of("user", where={"user_id": "user_2"})) == [(None, "user_2", 1)]


async def test_the_range_is_half_open(reports: Reports):
    for when in ("2026-01-05T09:59:59", "2026-01-05T10:00", "2026-01-05T10:59:59", "2026-01-05T11:00"):
        reports.add(when)
    hour = await reports.of(from_ms=at("2026-01-05T10:00"), to_ms=at("2026-01-05T11:00"))
    second = await reports.of(from_ms=at("2026-01-05T10:59:59"), to_ms=at("2026-01-05T11:00:01"))
    assert (hour.total["requests"], second.total["requests"]) == (2, 2)


@pytest.mark.parametrize("name", ["users", "", "tag", "mode", "usage_log.id; --", "tag:a\0"])
async def test_another_dimension_is_refused_with_those_there_are(reports: Reports, name: str):
    with pytest.raises(InvalidRequest, match="user, team, key, model, provider, tag:NAME, label:NAME"):
        await reports.of(name)


async def test_an_empty_range_is_refused(reports: Reports):
    with pytest.raises(InvalidRequest, match="`from` must lie before `to`"):
        await reports.of(to_ms=at("2026-01-01"))


async def test_requests_are_listed_newest_first_with_those_still_in_the_journal(reports: Reports):
    for day in (1, 3, 2):
        reports.add(f"2026-01-0{day}", outcome="hit")
    reports.add("2026-01-04", outcome="refused", status=400)
    page = await reports.requests(outcome="hit", limit=2)
    assert [row["at_ms"] for row in page.data] == [at("2026-01-03"), at("2026-01-02")]
    rest = await reports.requests(outcome="hit", limit=2, cursor=page.next_cursor)
    assert ([row["at_ms"] for row in rest.data], rest.next_cursor) == ([at("2026-01-01")], None)


def test_a_month_starts_with_its_first_moment_in_utc():
    assert month_start_ms(at("2026-02-28T23:59:59")) == month_start_ms(at("2026-02-01")) == at("2026-02-01")
