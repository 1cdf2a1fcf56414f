"""Admission in process: limits of requests, rolling and by the calendar."""

from __future__ import annotations

import pytest

from gateway.domain.api_key import Mode
from gateway.domain.caller import Caller
from gateway.domain.limits import Limit, Metric, ScopeKind, Window, window_bounds
from gateway.errors import BudgetExhausted, LimitExceeded, QuotaExceeded, RateLimitExceeded
from gateway.storage.rate_limits import MemoryRateLimits
from tests.support.ledger import AT_MS, limit

S_NS = 1_000_000_000
DAY_MS = 86_400_000


def requests(amount: int, window: Window, scope: ScopeKind = ScopeKind.USER, scope_id: str = "") -> Limit:
    return limit(amount, Metric.REQUESTS, window, scope, scope_id)


def caller(*limits: Limit, mode: Mode = Mode.LIVE) -> Caller:
    return Caller("key_1", "prefix", "hash", "user_1", "team_1", mode, None, {}, limits)


class Clocked:
    """Limits with the two clocks of a call, moved by hand."""

    def __init__(self) -> None:
        self.rates = MemoryRateLimits()
        self.now_ns, self.now_ms = 1000 * S_NS, AT_MS

    def forward(self, seconds: float) -> None:
        self.now_ns += int(seconds * S_NS)
        self.now_ms += int(seconds * 1000)

    def load(self, who: Caller, calls: int = 0) -> int:
        missing = self.rates.missing(who, self.now_ms)
        for each, start_ms in missing:
            self.rates.load(who, each, start_ms, calls)
        return len(missing)

    def take(self, who: Caller, times: int = 1) -> list[int]:
        """What is left of each limit after the last."""
        self.load(who)
        states = [self.rates.take(who, now_ns=self.now_ns, now_ms=self.now_ms) for _ in range(times)]
        return [state.left for state in states[-1]]

    def look(self, who: Caller) -> list[int]:
        return [state.left for state in self.rates.look(who, now_ns=self.now_ns, now_ms=self.now_ms)]


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


@pytest.mark.parametrize(
    ("window", "refusal"),
    [
        (Window.MINUTE, RateLimitExceeded),
        (Window.HOUR, RateLimitExceeded),
        (Window.DAY, QuotaExceeded),
        (Window.MONTH, QuotaExceeded),
        (Window.TOTAL, BudgetExhausted),
    ],
)
def test_exactly_the_amount_is_admitted(clocked: Clocked, window: Window, refusal: type[LimitExceeded]):
    who = caller(requests(3, window))
    assert clocked.take(who, times=3) == [0]
    with pytest.raises(refusal):
        clocked.take(who)


def test_a_call_refused_by_one_limit_takes_of_none(clocked: Clocked):
    wide = [requests(10, Window.DAY, ScopeKind.TEAM), requests(10, Window.MINUTE, ScopeKind.TEAM)]
    who = caller(*wide, requests(1, Window.HOUR, ScopeKind.KEY))
    clocked.take(who)
    for _ in range(5):
        with pytest.raises(RateLimitExceeded):
            clocked.take(who)
    assert clocked.look(who) == [9, 9, 0]


def test_looking_takes_nothing(clocked: Clocked):
    who = caller(requests(5, Window.MINUTE), requests(5, Window.DAY))
    clocked.take(who)
    for _ in range(20):
        assert clocked.look(who) == [4, 4]


def test_looking_leaves_out_counts_that_are_not_loaded(clocked: Clocked):
    assert clocked.look(caller(requests(5, Window.MINUTE), requests(5, Window.DAY))) == [5]


def test_a_rate_comes_back_evenly(clocked: Clocked):
    who = caller(requests(6, Window.MINUTE))
    clocked.take(who, times=6)
    clocked.forward(10)
    assert clocked.take(who) == [0]
    with pytest.raises(RateLimitExceeded) as refused:
        clocked.take(who)
    assert refused.value.retry_after_s == 10


def test_a_calendar_window_is_loaded_once_and_anew_when_it_rolls(clocked: Clocked):
    who = caller(requests(10, Window.DAY), requests(10, Window.MINUTE))
    assert clocked.load(who, calls=7) == 1
    assert clocked.load(who, calls=0) == 0
    assert clocked.take(who)[0] == 2
    clocked.forward(24 * 3600)
    assert clocked.load(who) == 1
    assert clocked.take(who)[0] == 9


def test_a_load_that_comes_second_does_not_undo_what_was_counted_since(clocked: Clocked):
    day = requests(10, Window.DAY)
    who = caller(day)
    start_ms, _ = window_bounds(Window.DAY, clocked.now_ms)
    clocked.rates.load(who, day, start_ms, 3)
    clocked.take(who)
    clocked.rates.load(who, day, start_ms, 3)
    assert clocked.look(who) == [6]


def test_the_window_says_when_it_resets(clocked: Clocked):
    who = caller(requests(5, Window.DAY), requests(5, Window.TOTAL))
    clocked.load(who)
    day, total = clocked.rates.take(who, now_ns=clocked.now_ns, now_ms=clocked.now_ms)
    assert (day.reset_s, total.reset_s) == (14 * 3600, None)


def test_callers_of_one_team_share_its_limit_and_modes_do_not(clocked: Clocked):
    team = requests(2, Window.MINUTE, ScopeKind.TEAM)
    clocked.take(caller(team), times=2)
    with pytest.raises(RateLimitExceeded):
        clocked.take(caller(team))
    assert clocked.take(caller(team, mode=Mode.TEST)) == [1]


def test_other_metrics_are_not_taken_at_admission(clocked: Clocked):
    who = caller(limit(0), limit(0, Metric.CONCURRENCY), limit(0, Metric.IMAGES))
    assert clocked.rates.missing(who, clocked.now_ms) == []
    assert clocked.rates.take(who, now_ns=clocked.now_ns, now_ms=clocked.now_ms) == []


def test_rates_that_are_free_again_are_forgotten_and_the_others_kept(clocked: Clocked):
    for number in range(10_000):
        clocked.take(caller(requests(1, Window.MINUTE, ScopeKind.KEY, f"key_{number}")))
    clocked.forward(61)
    busy = caller(requests(1, Window.MINUTE, ScopeKind.KEY, "busy"))
    clocked.take(busy)
    assert len(clocked.rates._tats) == 1
    with pytest.raises(RateLimitExceeded):
        clocked.take(busy)
