"""Answers that replicas share in Redis: what was purged does not come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.storage.redis_pipe import RedisPipe
from gateway.storage.response_cache import Entry
from gateway.storage.shared_answers_redis import RedisAnswers
from tests.support.ledger import stored_answer
from tests.support.proxy import Proxy, proxy_to
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

ENTRY = Entry("f" * 64, stored_answer("gen_1"), created_ms=1, expires_ms=None)


class Replica:
    """A process that shares answers over a connection of its own, which may be a bad one."""

    def __init__(self, port: int) -> None:
        self.pipe = RedisPipe(f"redis://127.0.0.1:{port}/0", timeout_s=5)
        self.answers = RedisAnswers(self.pipe)

    async def connected(self, *, is_up: bool = True) -> None:
        async def so() -> bool:
            return self.pipe.up is is_up

        await until(so)

    async def finds(self) -> bool:
        return await self.answers.find(ENTRY.fingerprint) is not None


@asynccontextmanager
async def replica(port: int) -> AsyncIterator[Replica]:
    made = Replica(port)
    task = asyncio.create_task(made.pipe.run())
    await made.connected()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Line:
    """A replica's line to Redis, which can be lost. It is impatient then alone: else a slow answer would be none."""

    def __init__(self, proxy: Proxy, pipe: RedisPipe) -> None:
        self._proxy = proxy
        self._pipe = pipe

    def lose(self) -> None:
        self._proxy.mood, self._pipe._timeout_s = "swallow", 0.2

    def find(self) -> None:
        self._proxy.mood, self._pipe._timeout_s = "pass", 5


@asynccontextmanager
async def replica_behind(valkey: ValkeyServer) -> AsyncIterator[tuple[Replica, Line]]:
    async with proxy_to(valkey.port) as proxy, replica(proxy.port) as made:
        yield made, Line(proxy, made.pipe)


async def test_what_one_keeps_another_finds_until_it_is_purged(valkey: ValkeyServer):
    async with replica(valkey.port) as one, replica(valkey.port) as other:
        one.answers.keep(ENTRY)
        assert await one.finds()
        assert await other.finds()
        other.answers.drop(ENTRY.fingerprint)
        assert not await other.finds()
        one.answers.keep(ENTRY)  # by one who had read it before it was purged
        assert not await one.finds()


async def test_what_is_purged_while_redis_can_not_be_told_is_gone_when_it_can(valkey: ValkeyServer):
    async with replica_behind(valkey) as (one, line):
        one.answers.keep(ENTRY)
        assert await one.finds()
        line.lose()
        one.answers.drop(ENTRY.fingerprint)  # asked, and no answer comes
        await one.connected(is_up=False)
        line.find()
        await one.connected()
        assert not await one.finds()

        line.lose()
        valkey.flush()
        assert not await one.finds()
        with valkey.client() as client:
            client.set(f"darkroom:answer:{ENTRY.fingerprint}", "what another put back")
        one.answers.drop(ENTRY.fingerprint)  # not even asked
        line.find()
        await one.connected()
        assert not await one.finds()
        with valkey.client() as client:
            assert client.get(f"darkroom:answer:{ENTRY.fingerprint}") == "-"


async def test_what_is_purged_goes_though_redis_has_no_memory_for_its_mark(valkey: ValkeyServer):
    async with replica(valkey.port) as one:
        one.answers.keep(ENTRY)
        assert await one.finds()
        with valkey.client() as client:
            client.config_set("maxmemory", "1")
            try:
                one.answers.drop(ENTRY.fingerprint)

                async def is_gone() -> bool:
                    return not await one.finds()

                await until(is_gone)
            finally:
                client.config_set("maxmemory", "0")
