"""Notices by Redis: published over the shared pipe, heard on a connection of its own.

Redis gone: nothing is told or heard until it is back.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.storage.notices import Hear
from gateway.storage.redis_pipe import RedisGone, RedisPipe, redis_pool

_PAUSE_S = 0.5
_log = structlog.get_logger(__name__)


class _Notice(msgspec.Struct, array_like=True, frozen=True):
    kind: str
    object_id: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Notice).decode


class RedisNotices:
    def __init__(self, pipe: RedisPipe, url: str) -> None:
        self._pipe = pipe
        pool = redis_pool(url)
        self._client = Redis(connection_pool=pool)
        # channels know nothing of a database's number, which keeps apart what else shares the server
        self._channel = f"darkroom:{pool.connection_kwargs.get('db') or 0}:notices"

    def tell(self, kind: str, object_id: str) -> None:
        with suppress(RedisGone):
            self._pipe.send(("PUBLISH", self._channel, _encode(_Notice(kind, object_id))), lambda _reply: None)

    async def run(self, hear: Hear) -> None:
        try:
            while True:
                try:
                    await self._listen(hear)
                except (RedisError, OSError) as exc:
                    _log.debug("notices_not_heard", reason=str(exc))  # the pipe says it aloud
                await asyncio.sleep(_PAUSE_S)
        finally:
            await self._client.aclose()
            await self._client.connection_pool.disconnect()

    async def _listen(self, hear: Hear) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(self._channel)
            async for message in channel.listen():
                with suppress(msgspec.MsgspecError):  # of some other version
                    notice = _decode(message["data"])
                    hear(notice.kind, notice.object_id)
