"""Months: their form and their ends."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.month import month_of, parse_month
from gateway.errors import InvalidRequest


def test_a_month_is_from_its_first_moment_to_before_the_next_one_s():
    assert parse_month("2024-02") == ("2024-02", 1_706_745_600_000, 1_709_251_200_000)
    assert parse_month("2026-12").end_ms == parse_month("2027-01").start_ms


@given(st.integers(0, parse_month("9998-12").end_ms - 1))
def test_every_moment_lies_in_its_month(at_ms: int):
    month = month_of(at_ms)
    assert month.text == dt.datetime.fromtimestamp(at_ms // 1000, dt.UTC).isoformat()[:7]
    assert month.start_ms <= at_ms < month.end_ms
    assert parse_month(month.text) == month


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-1", "2026-13", "2026-00", "26-01", "1969-12", "9999-01", "2026-01 ", "٢٠٢٦-٠١"]
)
def test_what_is_no_month_is_refused(text: str):
    with pytest.raises(InvalidRequest, match="write it like 2026-11"):
        parse_month(text)
