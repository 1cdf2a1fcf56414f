"""Periods: what an address asks for, and what it is compared with."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.periods import DAY, PRESETS, read_period

NOW = dt.datetime(2026, 11, 27, 10, 35, tzinfo=dt.UTC)
TIMES = st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2090, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("preset", "start", "end", "before", "before_end", "bucket"),
    [
        ("24h", "2026-11-26T11", "2026-11-27T11", "2026-11-25T11", "2026-11-26T11", "hour"),
        ("7d", "2026-11-21", "2026-11-28", "2026-11-14", "2026-11-21", "day"),
        ("month", "2026-11-01", "2026-11-27T11", "2026-10-01", "2026-10-27T11", "day"),
        ("last-month", "2026-10-01", "2026-11-01", "2026-09-01", "2026-10-01", "day"),
    ],
)
def test_presets(preset: str, start: str, end: str, before: str, before_end: str, bucket: str):
    period = read_period({"period": preset}, NOW)
    assert (period.start, period.end) == (at(start), at(end))
    assert (period.before, period.before_end) == (at(before), at(before_end))
    assert period.bucket == bucket


def test_days_are_taken_whole_and_the_last_is_included():
    period = read_period({"from": "2026-11-01", "to": "2026-11-03"}, NOW)
    assert (period.start, period.end) == (at("2026-11-01"), at("2026-11-04"))
    assert (period.before, period.before_end) == (at("2026-10-29"), at("2026-11-01"))
    assert period.label == "1 Nov 2026 to 3 Nov 2026"
    assert period.query == {"from": "2026-11-01", "to": "2026-11-03"}


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"period": "sideways"},
        {"from": "yesterday", "to": "2026-11-03"},
        {"from": "2026-11-03", "to": "2026-11-01"},
        {"from": "0001-01-01", "to": "9999-12-31"},
        {"from": "2026-11-01"},
    ],
)
def test_what_is_not_understood_is_the_default(query: dict[str, str]):
    assert read_period(query, NOW).preset == "30d"


@given(TIMES, st.sampled_from(sorted(PRESETS)))
def test_any_preset_at_any_time_is_whole_and_meets_what_it_is_compared_with(now: dt.datetime, preset: str):
    period = read_period({"period": preset}, now)
    assert period.before < period.before_end <= period.start < period.end
    assert period.end - now <= DAY or preset == "last-month"
    assert all(moment.minute == moment.second == moment.microsecond == 0 for moment in (period.start, period.end))
    buckets = period.buckets()
    assert buckets[0] == period.start
    assert buckets[-1] < period.end
    assert len(buckets) < 130
    assert buckets == sorted(set(buckets))


def test_months_are_buckets_of_long_periods():
    period = read_period({"from": "2026-01-01", "to": "2026-12-31"}, NOW)
    assert period.bucket == "month"
    assert [f"{start:%m-%d}" for start in period.buckets()] == [f"{month:02}-01" for month in range(1, 13)]
