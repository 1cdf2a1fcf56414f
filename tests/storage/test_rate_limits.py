"""Admission: limits of requests, rolling and by the calendar, in process and in Redis."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from gateway.domain.api_key import Mode
from gateway.domain.caller import Caller
from gateway.domain.ids import new_id
from gateway.domain.limits import Limit, Metric, ScopeKind, Window
from gateway.errors import BudgetExhausted, LimitExceeded, QuotaExceeded, RateLimitExceeded
from gateway.storage.rate_limits import MemoryRateLimits, RateLimits, RateState, Verdict
from gateway.storage.rate_limits_redis import RedisRateLimits
from gateway.storage.redis_pipe import RedisPipe
from tests.support.ledger import limit
from tests.support.proxy import Mood, proxy_to
from tests.support.valkey import ValkeyServer, running_valkey
from tests.support.waiting import until

S_NS = 1_000_000_000


def requests(amount: int, window: Window, scope: ScopeKind = ScopeKind.USER, scope_id: str = "") -> Limit:
    return limit(amount, Metric.REQUESTS, window, scope, scope_id)


def caller(*limits: Limit, mode: Mode = Mode.LIVE) -> Caller:
    return Caller("key_1", "prefix", "hash", "user_1", "team_1", mode, None, {}, limits)


class UsageLog:
    """What SQL counts; `asked` how often it was."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked = 0

    async def count(self, _caller: Caller, _limit: Limit, _since_ms: int) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        return self.calls


class Door:
    """Limits, with the clocks of a call moved by hand where they are a process's own."""

    def __init__(self, rates: RateLimits, log: UsageLog) -> None:
        self.rates, self.log = rates, log
        self.now_ns, self.now_ms = time.monotonic_ns(), time.time_ns() // 1_000_000

    def forward(self, seconds: float) -> None:
        self.now_ns += int(seconds * S_NS)
        self.now_ms += int(seconds * 1000)

    async def states(self, who: Caller, call_id: str | None = None) -> list[RateState]:
        """Raises LimitExceeded."""
        verdict = await self.rates.take(who, call_id=call_id or new_id("req"), now_ns=self.now_ns, now_ms=self.now_ms)
        if verdict.refusal is not None:
            raise verdict.refusal
        return list(verdict.states)

    async def take(self, who: Caller, times: int = 1) -> list[int]:
        """What is left of each limit after the last."""
        for _ in range(times):
            states = await self.states(who)
        return [state.left for state in states]

    async def look(self, who: Caller) -> list[int]:
        return [state.left for state in await self.rates.look(who, now_ns=self.now_ns, now_ms=self.now_ms)]


async def until_up(pipe: RedisPipe) -> None:
    async def is_up() -> bool:
        return pipe.up

    await until(is_up)


class RunningPipe:
    def __init__(self, server: ValkeyServer) -> None:
        self.pipe = RedisPipe(server.url(), timeout_s=5)

    async def __aenter__(self) -> RedisPipe:
        self._task = asyncio.create_task(self.pipe.run())
        await self.pipe.first_try()
        return self.pipe

    async def __aexit__(self, *_exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
def log() -> UsageLog:
    return UsageLog()


@pytest.fixture
def memory(log: UsageLog) -> Door:
    return Door(MemoryRateLimits(log.count), log)


@pytest.fixture
async def redis(log: UsageLog, valkey: ValkeyServer) -> AsyncIterator[Door]:
    async with RunningPipe(valkey) as pipe:
        yield Door(RedisRateLimits(pipe, MemoryRateLimits(log.count), log.count), log)


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
    await door.take(who, times=6)
    with pytest.raises(RateLimitExceeded) as refused:
        await door.take(who)
    assert refused.value.retry_after_s == 10


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
    day, month, total = await door.states(who)
    tomorrow = 86_400 - time.time() % 86_400
    assert day.reset_s == pytest.approx(tomorrow, abs=120)
    assert month.reset_s is not None
    assert month.reset_s % 86_400 == pytest.approx(tomorrow, abs=120)
    assert 0 < month.reset_s <= 31 * 86_400
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


# -- in Redis --------------------------------------------------------------------------------------------------------


async def test_processes_share_their_limits(redis: Door, log: UsageLog, valkey: ValkeyServer):
    who = caller(requests(10, Window.HOUR), requests(20, Window.DAY))
    async with RunningPipe(valkey) as other_pipe:
        other = Door(RedisRateLimits(other_pipe, MemoryRateLimits(log.count), log.count), log)
        assert await redis.take(who, times=4) == [6, 16]
        assert await other.take(who, times=3) == [3, 13]
        assert await redis.look(who) == [3, 13]


@pytest.mark.parametrize("seed", range(12))
async def test_both_say_the_same_of_any_limits_and_calls(memory: Door, redis: Door, seed: int):
    """Windows so long that none comes back while the test runs."""
    chance = random.Random(seed)
    windows = [Window.HOUR, Window.DAY, Window.MONTH, Window.TOTAL]
    places = chance.sample([(scope, window) for scope in ScopeKind for window in windows], k=4)
    who = caller(*(requests(chance.randrange(12), window, scope, "x") for scope, window in places))
    memory.log.calls = redis.log.calls = chance.randrange(4)
    taken: list[str] = []
    for number in range(60):
        call_id, told = f"req_{seed}_{number}", []
        gives_back = taken and chance.random() < 0.3
        back = taken.pop(chance.randrange(len(taken))) if gives_back else ""
        for door in (memory, redis):
            if gives_back:
                door.rates.give_back(who, call_id=back)
                told.append((True, await door.look(who)))
                continue
            verdict = await door.rates.take(who, call_id=call_id, now_ns=door.now_ns, now_ms=door.now_ms)
            told.append((verdict.refusal is None, [state.left for state in verdict.states]))
        assert told[0] == told[1]
        if told[0][0] and not gives_back:
            taken.append(call_id)


async def test_a_question_asked_again_takes_nothing(redis: Door):
    who = caller(requests(10, Window.HOUR), requests(10, Window.DAY))
    first = await redis.states(who, "req_1")
    assert [state.left for state in await redis.states(who, "req_1")] == [state.left for state in first] == [9, 9]
    redis.rates.give_back(who, call_id="req_1")
    redis.rates.give_back(who, call_id="req_1")
    assert await redis.look(who) == [10, 10]


async def test_a_question_asked_again_with_other_calls_beside_it_has_an_answer_for_each(redis: Door):
    who = caller(requests(20, Window.HOUR), requests(20, Window.DAY))
    await redis.take(who)

    async def together(calls: int) -> list[list[int]]:
        found = await asyncio.gather(*(redis.states(who, "req_1" if not n else None) for n in range(calls)))
        return [[state.left for state in states] for states in found]

    assert await asyncio.wait_for(together(3), 5) == [[18, 18], [17, 17], [16, 16]]
    assert await asyncio.wait_for(together(5), 5) == [[left, left] for left in (15, 14, 13, 12, 11)]


async def test_calls_that_ask_together_hear_their_verdicts_though_one_of_them_breaks(redis: Door):
    who = caller(requests(10, Window.HOUR))
    heard: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()

    def break_down(_verdict: Verdict | None) -> None:
        raise ValueError("the call is broken")

    for number, hear in enumerate((break_down, heard.set_result)):
        redis.rates.ask(who, call_id=f"req_{number}", now_ns=redis.now_ns, now_ms=redis.now_ms, heard=hear)
    verdict = await asyncio.wait_for(heard, 5)
    assert verdict is not None
    assert verdict.states[0].left == 8


async def test_the_windows_are_those_of_the_server_whatever_the_clock_here_says(redis: Door):
    who = caller(requests(2, Window.DAY), requests(2, Window.HOUR))
    await redis.take(who)
    redis.forward(25 * 3600)
    assert await redis.take(who) == [0, 0]
    with pytest.raises(LimitExceeded):
        await redis.take(who)


async def test_a_count_of_an_earlier_window_is_loaded_anew(redis: Door, valkey: ValkeyServer):
    who = caller(requests(10, Window.DAY))
    redis.log.calls = 5
    assert await redis.take(who) == [4]
    with valkey.client() as client:
        (key,) = client.keys("*user*day*")
        assert client.ttl(key) > 0
        client.hincrby(key, "start", -86_400)
    redis.log.calls = 0
    assert await redis.take(who) == [9]


@pytest.mark.parametrize("fate", ["kill", "freeze", "flush"])
async def test_a_server_that_goes_leaves_each_process_its_share(redis: Door, log: UsageLog, fate: str):
    """Nothing waits longer than the pipe's time-out, and flushed it counts on from the usage log."""
    local = MemoryRateLimits(log.count)
    local.share = 2
    with running_valkey() as server:
        async with RunningPipe(server) as pipe:
            pipe._timeout_s = 0.3
            door = Door(RedisRateLimits(pipe, local, log.count), log)
            who = caller(requests(10, Window.DAY))
            assert await door.take(who, times=2) == [8]
            log.calls = 2
            getattr(server, fate)()
            left = await door.take(who)
            assert left == ([7] if fate == "flush" else [6])


async def test_a_server_that_comes_back_is_told_what_it_missed(log: UsageLog):
    with running_valkey() as server:
        async with RunningPipe(server) as pipe:
            door = Door(RedisRateLimits(pipe, MemoryRateLimits(log.count), log.count), log)
            who = caller(requests(10, Window.DAY))
            await door.take(who)
            server.freeze()
            pipe._timeout_s = 0.2
            log.calls = 1
            assert await door.take(who, times=3) == [6]
            log.calls = 4
            server.thaw()
            await until_up(pipe)
            assert await door.take(who) == [5]


@pytest.mark.parametrize("asked", ["take", "look"])
async def test_a_server_without_memory_for_a_count_leaves_each_process_its_share(log: UsageLog, asked: str):
    local = MemoryRateLimits(log.count)
    local.share = 2
    with running_valkey() as server:
        async with RunningPipe(server) as pipe:
            door = Door(RedisRateLimits(pipe, local, log.count), log)
            await pipe.call("CONFIG", "SET", "maxmemory", "1")
            log.calls = 2
            left = await asyncio.wait_for(getattr(door, asked)(caller(requests(10, Window.DAY))), 5)
            assert left == ([6] if asked == "take" else [8])


async def test_what_a_server_missed_is_not_forgotten_when_it_goes_again_at_once(log: UsageLog, valkey: ValkeyServer):
    async with proxy_to(valkey.port) as proxy:
        pipe = RedisPipe(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=0.2)
        door = Door(RedisRateLimits(pipe, MemoryRateLimits(log.count), log.count), log)
        moods: list[Mood] = ["pass", "swallow", "pass"]
        pipe.when_up(lambda: setattr(proxy, "mood", moods.pop(0)))
        running = asyncio.create_task(pipe.run())
        await until_up(pipe)
        who = caller(requests(10, Window.DAY))
        await door.take(who)
        proxy.mood = "swallow"
        log.calls = 1
        assert await door.take(who, times=3) == [6]

        async def is_back_for_good() -> bool:
            proxy.mood = "pass" if not pipe.up else proxy.mood
            return not moods

        await until(is_back_for_good)
        log.calls = 4
        assert await door.take(who) == [5]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
