"""The connection to Redis that a process shares: each reply is its asker's, whatever the others do with theirs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.storage.redis_pipe import RedisGone, RedisPipe, Script
from tests.support.valkey import ValkeyServer, running_valkey
from tests.support.waiting import until


@asynccontextmanager
async def running(url: str) -> AsyncIterator[RedisPipe]:
    pipe = RedisPipe(url, timeout_s=5)
    task = asyncio.create_task(pipe.run())
    await until_up(pipe)
    yield pipe
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until_up(pipe: RedisPipe) -> None:
    async def is_up() -> bool:
        return pipe.up

    await until(is_up)


def break_down(_reply: Any) -> None:
    raise ValueError("what hears the reply is broken")


async def test_replies_go_on_to_others_when_one_who_hears_his_breaks(valkey: ValkeyServer):
    async with running(valkey.url()) as pipe:
        pipe.send(("PING",), break_down)
        assert await pipe.call("ECHO", "me") == b"me"
        assert pipe.up


async def test_all_hear_that_redis_is_gone_though_one_who_hears_it_breaks():
    with running_valkey() as server:
        async with running(server.url()) as pipe:
            server.freeze()
            pipe._timeout_s = 0.2
            pipe.send(("PING",), break_down)
            with pytest.raises(RedisGone):
                await asyncio.wait_for(pipe.call("ECHO", "me"), 60)
            server.thaw()
            pipe._timeout_s = 5
            await until_up(pipe)
            assert await pipe.call("ECHO", "me") == b"me"


async def say_ok(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a server that says OK to everything, and once more than asked to a SURPRISE."""
    while data := await reader.read(65536):
        writer.write(b"+OK\r\n" * (data.count(b"*") + (b"SURPRISE" in data)))
    writer.close()


async def test_a_reply_that_nobody_asked_for_ends_the_connection_and_not_the_pipe():
    server = await asyncio.start_server(say_ok, "127.0.0.1", 0)
    async with server:
        stood: list[None] = []
        pipe = RedisPipe(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_s=5)
        pipe.when_up(lambda: stood.append(None))
        task = asyncio.create_task(pipe.run())

        async def stands_anew() -> bool:
            return len(stood) == 2

        await pipe.first_try()
        assert await pipe.call("SURPRISE") == b"OK"
        await until(stands_anew)
        assert await pipe.call("GET", "a") == b"OK"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_every_asker_gets_his_own_reply_while_scripts_are_unknown_and_askers_leave(valkey: ValkeyServer):
    async with running(valkey.url()) as pipe:
        script = Script("return ARGV[1]")
        asked: list[asyncio.Task[Any]] = []
        for number in range(400):
            if number % 7 == 0:
                await pipe.call("SCRIPT", "FLUSH")
            command: Callable[..., Any] = pipe.call
            call = command(0, number, script=script, again=True) if number % 2 else command("ECHO", number)
            asked.append(asyncio.create_task(call))
        for task in asked[::5]:
            task.cancel()
        told = await asyncio.gather(*asked, return_exceptions=True)
        kept = [(number, reply) for number, reply in enumerate(told) if number % 5]
        assert all(reply == str(number).encode() for number, reply in kept)
