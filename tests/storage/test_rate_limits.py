"""Admission: limits of requests, rolling and by the calendar, in process and in Redis."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from gateway.domain.api_key import Mode
from gateway.domain.limits import Metric, ScopeKind, Window
from gateway.errors import BudgetExhausted, LimitExceeded, QuotaExceeded, RateLimitExceeded
from gateway.storage.rate_limits import MemoryRateLimits
from tests.support.admission import Door, caller, requests
from tests.support.ledger import limit


@pytest.fixture(params=["memory", "redis"])
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.getfixturevalue(request.param)
    return found


# -- both ------------------------------------------------------------------------------------------------------------


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
async def test_exactly_the_amount_is_admitted(door: Door, window: Window, refusal: type[LimitExceeded]):
    who = caller(requests(3, window))
    assert await door.take(who, times=3) == [0]
    with pytest.raises(refusal):
        await door.take(who)


async def test_exactly_the_amount_is_admitted_of_many_at_once(door: Door):
    who = caller(requests(100, Window.HOUR), requests(70, Window.DAY))
    found = await asyncio.gather(*(door.states(who) for _ in range(150)), return_exceptions=True)
    assert sum(isinstance(each, list) for each in found) == 70
    assert sum(isinstance(each, QuotaExceeded) for each in found) == 80


async def test_a_call_refused_by_one_limit_takes_of_none(door: Door):
    wide = [requests(10, Window.DAY, ScopeKind.TEAM), requests(10, Window.MINUTE, ScopeKind.TEAM)]
    who = caller(*wide, requests(1, Window.HOUR, ScopeKind.KEY))
    await door.take(who)
    for _ in range(5):
        with pytest.raises(RateLimitExceeded):
            await door.take(who)
    assert await door.look(who) == [9, 9, 0]


async def test_a_limit_of_nothing_admits_nothing(door: Door):
    for window in (Window.MINUTE, Window.DAY):
        with pytest.raises(LimitExceeded):
            await door.take(caller(requests(0, window)))


async def test_looking_takes_nothing(door: Door):
    who = caller(requests(5, Window.MINUTE), requests(5, Window.DAY))
    await door.take(who)
    for _ in range(20):
        assert await door.look(who) == [4, 4]


async def test_what_is_given_back_can_be_taken_again(door: Door):
    who = caller(requests(2, Window.HOUR), requests(2, Window.MONTH))
    await door.states(who, "req_1")
    await door.take(who)
    door.rates.give_back(who, call_id="req_1")
    assert await door.take(who) == [0, 0]
    with pytest.raises(LimitExceeded):
        await door.take(who)


async def test_a_refusal_says_when_there_is_room_for_one_again(door: Door):
    who = caller(requests(6, Window.MINUTE))
    found = await asyncio.gather(*(door.states(who) for _ in range(7)), return_exceptions=True)  # at one instant
    [refused] = [each for each in found if isinstance(each, RateLimitExceeded)]
    assert refused.retry_after_s == 10


async def test_counts_go_on_from_what_the_usage_log_says(door: Door):
    who = caller(requests(10, Window.DAY), requests(10, Window.MINUTE), requests(10, Window.MONTH))
    door.log.calls = 7
    assert await door.take(who) == [2, 9, 2]
    assert await door.take(who) == [1, 8, 1]
    assert door.log.asked == 2


async def test_looking_shows_what_the_usage_log_says_of_counts_that_nobody_took_of_yet(door: Door):
    who = caller(requests(10, Window.DAY), requests(10, Window.MINUTE))
    door.log.calls = 7
    assert await door.look(who) == [3, 10]


async def test_a_load_that_comes_second_does_not_undo_what_was_counted_since(door: Door):
    who = caller(requests(10, Window.DAY))
    door.log.calls = 3
    await asyncio.gather(*(door.states(who) for _ in range(4)))
    assert await door.look(who) == [3]


async def test_windows_say_when_they_reset(door: Door):
    who = caller(requests(5, Window.DAY), requests(5, Window.MONTH), requests(5, Window.TOTAL))
    asked_s = time.time()
    day, month, total = await door.states(who)
    assert day.reset_s is not None
    assert 0 < day.reset_s <= 86_400
    assert month.reset_s is not None
    assert 0 < month.reset_s <= 31 * 86_400
    for reset_s in (day.reset_s, month.reset_s):
        assert (asked_s + reset_s + 120) % 86_400 == pytest.approx(120, abs=120), "midnight"
    assert total.reset_s is None


async def test_callers_of_one_team_share_its_limit_and_modes_do_not(door: Door):
    team = requests(2, Window.MINUTE, ScopeKind.TEAM)
    await door.take(caller(team), times=2)
    with pytest.raises(RateLimitExceeded):
        await door.take(caller(team))
    assert await door.take(caller(team, mode=Mode.TEST)) == [1]


async def test_other_metrics_are_not_taken_at_admission(door: Door):
    who = caller(limit(0), limit(0, Metric.CONCURRENCY), limit(0, Metric.IMAGES))
    assert await door.take(who) == []
    assert door.log.asked == 0


# -- in process ------------------------------------------------------------------------------------------------------


async def test_a_rate_comes_back_evenly(memory: Door):
    who = caller(requests(6, Window.MINUTE))
    await memory.take(who, times=6)
    memory.forward(10)
    assert await memory.take(who) == [0]
    with pytest.raises(RateLimitExceeded):
        await memory.take(who)


async def test_a_calendar_window_is_loaded_anew_when_it_rolls(memory: Door):
    who = caller(requests(10, Window.DAY))
    memory.log.calls = 7
    assert await memory.take(who) == [2]
    memory.log.calls = 0
    memory.forward(24 * 3600)
    assert await memory.take(who) == [9]


async def test_rates_that_are_free_again_are_forgotten_and_the_others_kept(memory: Door):
    for number in range(10_000):
        await memory.take(caller(requests(1, Window.MINUTE, ScopeKind.KEY, f"key_{number}")))
    memory.forward(61)
    busy = caller(requests(1, Window.MINUTE, ScopeKind.KEY, "busy"))
    await memory.take(busy)
    assert isinstance(memory.rates, MemoryRateLimits)
    assert len(memory.rates._tats) == 1
    with pytest.raises(RateLimitExceeded):
        await memory.take(busy)


@pytest.mark.parametrize(("amount", "share", "admitted"), [(90, 3, 30), (10, 3, 3), (1, 3, 1), (2, 5, 1), (0, 3, 0)])
@pytest.mark.parametrize("window", [Window.HOUR, Window.DAY])
async def test_one_of_several_processes_admits_its_share_alone(
    memory: Door, window: Window, amount: int, share: int, admitted: int
):
    assert isinstance(memory.rates, MemoryRateLimits)
    memory.rates.share = share
    who = caller(requests(amount, window))
    taken = 0
    with suppress(LimitExceeded):
        while await memory.take(who):
            taken += 1
    assert taken == admitted
