"""Window arithmetic, GCRA, amounts and refusals."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.limits import (
    Limit,
    Metric,
    ScopeKind,
    Window,
    check_window,
    gcra,
    parse_amount,
    refusal,
    window_bounds,
)
from gateway.errors import BudgetExhausted, LimitExceeded, QuotaExceeded, RateLimitExceeded

LAST_YEAR_MS = 253_370_764_800_000  # 9999-01-01: a month later must still be a date


def ms(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (Window.MINUTE, "2026-11-22T20:00:59.999", "2026-11-22T20:00", "2026-11-22T20:01"),
        (Window.HOUR, "2026-12-31T23:59:59.999", "2026-12-31T23:00", "2027-01-01T00:00"),
        (Window.DAY, "2026-11-22T00:00", "2026-11-22", "2026-11-23"),
        (Window.DAY, "2028-02-28T12:00", "2028-02-28", "2028-02-29"),
        (Window.DAY, "2026-02-28T12:00", "2026-02-28", "2026-03-01"),
        (Window.MONTH, "2026-12-31T23:59:59.999", "2026-12-01", "2027-01-01"),
        (Window.MONTH, "2028-02-29T23:59:59.999", "2028-02-01", "2028-03-01"),
        (Window.MONTH, "2027-01-31T00:00", "2027-01-01", "2027-02-01"),
        (Window.MONTH, "2027-01-01T00:00", "2027-01-01", "2027-02-01"),
    ],
)
def test_a_window_is_of_the_utc_calendar(window: Window, now: str, start: str, end: str):
    assert window_bounds(window, ms(now)) == (ms(start), ms(end))


@pytest.mark.parametrize("window", [Window.TOTAL, Window.NONE])
def test_a_window_that_never_ends_starts_at_zero(window: Window):
    assert window_bounds(window, ms("2026-11-22")) == (0, None)


@given(
    window=st.sampled_from([Window.MINUTE, Window.HOUR, Window.DAY, Window.MONTH]),
    now_ms=st.integers(0, LAST_YEAR_MS),
)
def test_windows_hold_their_time_and_follow_each_other_without_a_gap(window: Window, now_ms: int):
    start, end = window_bounds(window, now_ms)
    assert end is not None
    assert start <= now_ms < end
    assert window_bounds(window, end)[0] == end
    assert window_bounds(window, end - 1) == (start, end)


SECOND = 1_000_000_000
NOW = 10**9 * SECOND


def allowed_at(times: list[int], *, amount: int, period_s: int) -> list[int]:
    tat, allowed = 0, []
    for now in times:
        decision = gcra(tat_ns=tat, now_ns=now, amount=amount, period_s=period_s)
        tat = decision.tat_ns
        if decision.allowed:
            allowed.append(now)
    return allowed


@given(
    gaps=st.lists(st.integers(0, 90 * SECOND), min_size=1, max_size=300),
    amount=st.integers(1, 40),
    period_s=st.sampled_from([60, 3600]),
)
@example(gaps=[0] * 100, amount=7, period_s=60)
def test_gcra_lets_its_amount_pass_at_once_and_then_one_a_spacing(gaps: list[int], amount: int, period_s: int):
    times = [NOW + sum(gaps[: position + 1]) for position in range(len(gaps))]
    allowed = allowed_at(times, amount=amount, period_s=period_s)
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            passed = last - first + 1
            assert passed <= amount + (allowed[last] - allowed[first]) * amount // (period_s * SECOND)


@given(now=st.integers(0, 2 * NOW), amount=st.integers(1, 1000))
@example(now=NOW, amount=11)
def test_gcra_starting_empty_lets_exactly_the_amount_pass_at_once(now: int, amount: int):
    allowed = allowed_at([now] * (amount + 5), amount=amount, period_s=60)
    assert len(allowed) == amount


@given(amount=st.integers(1, 100))
def test_gcra_allows_again_when_it_said_it_would_and_not_before(amount: int):
    tat = 0
    for _ in range(amount):
        tat = gcra(tat_ns=tat, now_ns=NOW, amount=amount, period_s=60).tat_ns
    refused = gcra(tat_ns=tat, now_ns=NOW, amount=amount, period_s=60)
    assert not refused.allowed
    assert refused.tat_ns == tat
    then = NOW + refused.retry_after_ns
    assert gcra(tat_ns=tat, now_ns=then, amount=amount, period_s=60).allowed
    assert not gcra(tat_ns=tat, now_ns=then - 1, amount=amount, period_s=60).allowed


def test_gcra_counts_down_what_is_left():
    tat, left = 0, []
    for _ in range(3):
        decision = gcra(tat_ns=tat, now_ns=100 * SECOND, amount=3, period_s=60)
        tat = decision.tat_ns
        left.append((decision.left, decision.reset_ns // SECOND))
    assert left == [(2, 20), (1, 40), (0, 60)]


def test_an_amount_of_nothing_allows_nothing():
    assert not gcra(tat_ns=0, now_ns=100, amount=0, period_s=60).allowed


@pytest.mark.parametrize(
    ("metric", "text", "amount"),
    [
        (Metric.IMAGES, "10", 10),
        (Metric.IMAGES, 10, 10),
        (Metric.REQUESTS, "0", 0),
        (Metric.COST_USD, "10", 10_000_000),
        (Metric.COST_USD, "0.065", 65_000),
    ],
)
def test_an_amount_is_read(metric: Metric, text: str | int, amount: int):
    assert parse_amount(metric, text) == amount


@pytest.mark.parametrize("text", ["", "-1", "1.5", "ten", "²", "1e3", "9" * 30])
def test_an_amount_that_is_no_whole_number_is_refused(text: str):
    with pytest.raises(ValueError, match="not an amount of images"):
        parse_amount(Metric.IMAGES, text)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("window", Window)
def test_concurrency_alone_has_no_window(metric: Metric, window: Window):
    if (metric is Metric.CONCURRENCY) == (window is Window.NONE):
        check_window(metric, window)
    else:
        with pytest.raises(ValueError, match="window"):
            check_window(metric, window)


@pytest.mark.parametrize(
    ("metric", "window", "reset_s", "kind", "should_retry"),
    [
        (Metric.REQUESTS, Window.MINUTE, 30, RateLimitExceeded, None),
        (Metric.REQUESTS, Window.HOUR, 90, RateLimitExceeded, False),
        (Metric.CONCURRENCY, Window.NONE, None, RateLimitExceeded, None),
        (Metric.IMAGES, Window.DAY, 60, QuotaExceeded, None),
        (Metric.COST_USD, Window.MONTH, 61, QuotaExceeded, False),
        (Metric.COST_USD, Window.TOTAL, None, BudgetExhausted, False),
    ],
)
def test_a_refusal_is_of_the_kind_that_says_what_waiting_does(
    metric: Metric, window: Window, reset_s: int | None, kind: type[LimitExceeded], should_retry: bool | None
):
    limit = Limit(ScopeKind.USER, "user_1", metric, window, 10)
    reset_ms = None if reset_s is None else reset_s * 1000
    refused = refusal(limit, asked=1, left=0, reset_ms=reset_ms, now_ms=0)
    assert type(refused) is kind
    assert refused.should_retry is should_retry
    assert (refused.retry_after_s is None) == (kind is BudgetExhausted)


def test_a_refusal_names_limit_asked_left_and_reset():
    limit = Limit(ScopeKind.TEAM, "team_1", Metric.COST_USD, Window.MONTH, 10_000_000)
    refused = refusal(limit, asked=65_000, left=10_000, reset_ms=61_500, now_ms=1_000)
    assert refused.message == (
        "The team's limit of 10 cost_usd per month leaves 0.01, and this call asks for 0.065; it resets in 61 s."
    )
    assert refused.detail == {
        "limit": "team-cost_usd-month",
        "scope": "team",
        "metric": "cost_usd",
        "window": "month",
        "amount": "10",
        "asked": "0.065",
        "left": "0.01",
        "reset_s": 61,
    }


def test_a_call_larger_than_the_limit_is_told_that_waiting_is_in_vain():
    limit = Limit(ScopeKind.KEY, "key_1", Metric.IMAGES, Window.DAY, 2)
    refused = refusal(limit, asked=4, left=2, reset_ms=1_000, now_ms=0)
    assert (refused.retry_after_s, refused.should_retry) == (None, False)
    assert "no waiting makes it fit" in refused.message
