"""Numbers and times as people read them: exact, and never ambiguous."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console import format as shown
from gateway.domain.pricing import usd


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "$0.00"),
        ("0.065", "$0.065"),
        ("5", "$5.00"),
        ("1234567.8", "$1,234,567.80"),
        ("-0.5", "−$0.50"),
        ("0.000001", "$0.000001"),
        ("100", "$100.00"),
        (None, "unknown"),
    ],
)
def test_money_shows_at_least_cents(value: str | None, text: str):
    assert shown.money(value) == text


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_money_is_exact(micro_usd: int):
    text = shown.money(usd(micro_usd)).replace("$", "").replace(",", "").replace("−", "-")
    assert Decimal(text) * 1_000_000 == micro_usd


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [("2", "1", "+100 %"), ("1", "2", "−50 %"), ("1", "0", "new"), ("0", "0", "no change"), (100, 100.1, "no change")],
)
def test_a_change_says_how_much(now: str, before: str, text: str):
    assert shown.change(now, before) == text


@pytest.mark.parametrize(
    ("filtered", "text"),
    [
        (shown.count(1234567), "1,234,567"),
        (shown.amount("2.5", "cost_usd"), "$2.50"),
        (shown.amount("1000", "images"), "1,000"),
        (shown.percent(1, 3), "33.3 %"),
        (shown.percent(1, 0), "–"),
        (shown.milliseconds(0.05), "50 µs"),
        (shown.milliseconds(12.4), "12 ms"),
        (shown.milliseconds(2100), "2.1 s"),
        (shown.size(900), "900 B"),
        (shown.size(90_400), "90 kB"),
        (shown.size(2_500_000), "2.5 MB"),
        (shown.short("gen_auGSWWsWq6XB"), "gen_auGSWW…"),
        (shown.short(None), "–"),
        (shown.words("rate_limit_exceeded"), "rate limit exceeded"),
        (shown.limit_name({"metric": "cost_usd", "window": "month"}), "cost a month"),
        (shown.limit_name({"metric": "images", "window": "total"}), "images in total"),
        (shown.limit_name({"metric": "concurrency", "window": None}), "concurrency"),
    ],
)
def test_counts_sizes_and_names(filtered: str, text: str):
    assert filtered == text


def test_a_time_is_utc_and_whole_for_machines():
    html = shown.moment("2026-11-05T09:07:03Z")
    assert html == '<time datetime="2026-11-05T09:07:03Z" title="2026-11-05 09:07:03 UTC">5 Nov 2026, 09:07</time>'
    assert shown.day("2026-11-05T09:07:03Z") == '<time datetime="2026-11-05T09:07:03Z">5 Nov 2026</time>'
    assert shown.moment(None) == shown.day(None) == "–"


def test_what_a_change_set_is_told_in_words():
    limits = [
        {"metric": "cost_usd", "window": "month", "amount": "4"},
        {"metric": "images", "window": "day", "amount": 9},
    ]
    assert shown.told(limits) == "cost a month $4.00; images a day 9"
    assert shown.told("Ada") == "Ada"
    assert shown.told(["flux-pro"]) == '["flux-pro"]'
    assert shown.told([]) == "[]"
