"""Admission that replicas share: what Redis alone has to hold."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.domain.limits import ScopeKind, Window
from gateway.errors import LimitExceeded
from gateway.storage.rate_limits import MemoryRateLimits, Verdict
from gateway.storage.rate_limits_redis import RedisRateLimits
from gateway.storage.redis_pipe import RedisPipe
from tests.support.admission import Door, RunningPipe, UsageLog, caller, requests, until_up
from tests.support.proxy import Mood, proxy_to
from tests.support.valkey import ValkeyServer, running_valkey
from tests.support.waiting import until


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
            door = Door(RedisRateLimits(pipe, local, log.count), log)
            who = caller(requests(10, Window.DAY))
            assert await door.take(who, times=2) == [8]
            log.calls = 2
            if fate != "flush":
                pipe._timeout_s = 0.3
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
            pipe._timeout_s = 5
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
        pipe = RedisPipe(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=5)
        door = Door(RedisRateLimits(pipe, MemoryRateLimits(log.count), log.count), log)
        moods: list[Mood] = ["pass", "swallow", "pass"]
        pipe.when_up(lambda: setattr(proxy, "mood", moods.pop(0) if moods else "pass"))
        running = asyncio.create_task(pipe.run())
        await until_up(pipe)
        who = caller(requests(10, Window.DAY))
        await door.take(who)
        proxy.mood, pipe._timeout_s = "swallow", 0.2
        log.calls = 1
        assert await door.take(who, times=3) == [6]

        async def is_back_for_good() -> bool:
            proxy.mood = "pass" if not pipe.up else proxy.mood
            return not moods

        await until(is_back_for_good)
        pipe._timeout_s = 5
        await until_up(pipe)
        log.calls = 4
        assert await door.take(who) == [5]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
