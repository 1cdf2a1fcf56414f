"""Answers that replicas share in Redis.

An entry is written only where none is, and a purge leaves a mark in its place for longer than any reader that still
holds the old one may take; every replica that hears of the purge sets it again. So what was purged does not come back.

Redis gone: nothing is found and nothing is kept; what is purged meanwhile is told as soon as it is back, before
anything is looked for there. Flushed: SQL answers, and what is found there is put back.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import structlog
from redis.exceptions import ResponseError

from gateway.storage.redis_pipe import RedisGone, RedisPipe
from gateway.storage.response_cache import Entry

_KEPT_S = 24 * 3600
_MARK_S = 120
_MARK = b"-"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode
_log = structlog.get_logger(__name__)


class RedisAnswers:
    def __init__(self, pipe: RedisPipe) -> None:
        self._pipe = pipe
        self._untold: set[str] = set()
        """Purged, and Redis may hold them yet."""
        pipe.when_up(self._tell_of_them)

    async def find(self, fingerprint: str) -> Entry | None:
        try:
            found = await self._pipe.call("GET", _key(fingerprint), again=True)
        except (RedisGone, ResponseError):
            return None
        if found is None or found == _MARK:
            return None
        try:
            return _decode(found)
        except msgspec.MsgspecError:  # of some other version
            _log.warning("shared_answer_not_read", fingerprint=fingerprint)
            return None

    def keep(self, entry: Entry) -> None:
        self._send("SET", _key(entry.fingerprint), _encode(entry), "NX", "EX", _KEPT_S)

    def drop(self, fingerprint: str) -> None:
        def done(reply: Any) -> None:
            if isinstance(reply, Exception):
                self._untold.add(fingerprint)
            if isinstance(reply, ResponseError):  # no memory for a mark: then without
                self._send("DEL", _key(fingerprint))

        try:
            self._pipe.send(("SET", _key(fingerprint), _MARK, "EX", _MARK_S), done, again=True)
        except RedisGone as exc:
            done(exc)

    def _send(self, *command: Any) -> None:
        with suppress(RedisGone):
            self._pipe.send(command, lambda _reply: None, again=True)

    def _tell_of_them(self) -> None:
        """A connection stands again."""
        untold, self._untold = self._untold, set()
        for fingerprint in untold:
            self.drop(fingerprint)


def _key(fingerprint: str) -> str:
    return f"darkroom:answer:{fingerprint}"
