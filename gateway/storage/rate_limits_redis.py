"""Admission that replicas share: every limit of requests of a caller in one script, by the server's own time.

Calls of one caller that come in one turn of the loop are one question, and questions share a write, so that a hit
costs a part of a round trip. A question carries the id of its first call: asked again after its answer was lost, it
takes nothing. All keys of a caller bear one hash tag, as a cluster wants them.

Redis gone, frozen or without memory: each process admits its part of the limits by itself (`MemoryRateLimits.share`),
within the pipe's time-out of the first sign of it and at once from then on. Redis back: rates go on as Redis left them,
and counts that missed calls are loaded anew from the usage log. Redis flushed, or failed over to a replica that missed
its last second: rates are short of what was lost, counts are loaded anew or short likewise; money is not counted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from redis.exceptions import ResponseError

from gateway.domain.caller import Caller
from gateway.domain.limits import refusal
from gateway.storage.rate_limits import CountCalls, Heard, MemoryRateLimits, RateState, Verdict
from gateway.storage.redis_pipe import RedisGone, RedisPipe, Script

_HERE = Path(__file__).parent
_ADMIT = Script((_HERE / "admission.lua").read_text(encoding="ascii"))
_COUNT = Script((_HERE / "admission_count.lua").read_text(encoding="ascii"))
_US = 1_000_000
_log = structlog.get_logger(__name__)


class _NotLoaded(Exception):
    """Redis does not hold these counts: the place of each limit, and the start of its window in seconds."""

    def __init__(self, missing: Sequence[tuple[int, int]]) -> None:
        super().__init__(missing)
        self.missing = missing


_Part = list[int] | Exception
"""Of one call: the place of the limit that refused it (0: none), then two numbers a limit; or why there is none."""


class _Question:
    """Calls of one caller that ask together."""

    __slots__ = ("call_id", "caller", "heard")

    def __init__(self, caller: Caller, call_id: str) -> None:
        self.caller = caller
        self.call_id = call_id
        self.heard: list[Callable[[_Part], None]] = []

    def share_out(self, reply: Any) -> None:
        for heard, part in zip(self.heard, _share_out(reply, len(self.heard)), strict=True):
            try:
                heard(part)
            except Exception:  # noqa: BLE001  (what one call makes of it, the others must not wait for in vain)
                _log.exception("verdict_broke")


class RedisRateLimits:
    """`local` admits while Redis is gone."""

    def __init__(self, pipe: RedisPipe, local: MemoryRateLimits, count_calls: CountCalls) -> None:
        self._pipe = pipe
        self._local = local
        self._count_calls = count_calls
        self._asking: dict[int, _Question] = {}
        self._uncounted: set[str] = set()
        """Counts in Redis that missed calls while it was gone."""
        pipe.when_up(self._drop_uncounted)

    def try_take(self, caller: Caller, *, now_ns: int, now_ms: int) -> Verdict | None:
        if not caller.request_limits:
            return Verdict((), None)
        return None if self._pipe.up else self._take_locally(caller, now_ns, now_ms)

    def ask(self, caller: Caller, *, call_id: str, now_ns: int, now_ms: int, heard: Heard) -> None:
        def answered(part: _Part) -> None:
            if isinstance(part, list):
                heard(_verdict(caller, part, now_ms))
            else:
                heard(None if isinstance(part, _NotLoaded) else self._take_locally(caller, now_ns, now_ms))

        self._join(caller, call_id, answered)

    async def take(self, caller: Caller, *, call_id: str, now_ns: int, now_ms: int) -> Verdict:
        verdict = self.try_take(caller, now_ns=now_ns, now_ms=now_ms)
        if verdict is not None:
            return verdict
        try:
            return _verdict(caller, await self._loaded_part(caller, call_id), now_ms)
        except (RedisGone, ResponseError):
            return await self._take_alone(caller, now_ns, now_ms)

    async def _take_alone(self, caller: Caller, now_ns: int, now_ms: int) -> Verdict:
        verdict = self._take_locally(caller, now_ns, now_ms)
        return verdict or await self._local.take(caller, call_id="", now_ns=now_ns, now_ms=now_ms)

    def give_back(self, caller: Caller, *, call_id: str) -> None:
        """Where Redis is gone, by this process: exact, but for a call that it went or came back under."""
        try:
            self._pipe.send(_command(caller, f"back-{call_id}", -1), lambda _reply: None, again=True, script=_ADMIT)
        except RedisGone:
            self._local.give_back(caller, call_id=call_id)

    async def look(self, caller: Caller, *, now_ns: int, now_ms: int) -> Sequence[RateState]:
        if not caller.request_limits:
            return ()
        try:
            while True:
                reply = await self._pipe.call(*_command(caller, "", 0), again=True, script=_ADMIT)
                if not reply[1]:
                    return _states(caller, reply[3:])
                await self._load(caller, _missing(reply))
        except (RedisGone, ResponseError):
            return await self._local.look(caller, now_ns=now_ns, now_ms=now_ms)

    def _join(self, caller: Caller, call_id: str, heard: Callable[[_Part], None]) -> None:
        """Ask together with what the same caller asks in this turn of the loop."""
        question = self._asking.get(id(caller))
        if question is None:
            question = self._asking[id(caller)] = _Question(caller, call_id)
            if len(self._asking) == 1:
                asyncio.get_running_loop().call_soon(self._ask_all)
        question.heard.append(heard)

    def _ask_all(self) -> None:
        questions, self._asking = self._asking, {}
        for question in questions.values():
            command = _command(question.caller, question.call_id, len(question.heard))
            try:
                self._pipe.send(command, question.share_out, again=True, script=_ADMIT)
            except RedisGone as exc:
                question.share_out(exc)

    async def _part(self, caller: Caller, call_id: str) -> list[int]:
        """The call's part of a reply. Raises RedisGone, ResponseError, _NotLoaded."""
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def heard(part: _Part) -> None:
            if future.done():
                return
            if isinstance(part, list):
                future.set_result(part)
            else:
                future.set_exception(part)

        self._join(caller, call_id, heard)
        return await future

    async def _loaded_part(self, caller: Caller, call_id: str) -> list[int]:
        """Raises RedisGone, ResponseError, LedgerUnavailable."""
        while True:
            try:
                return await self._part(caller, call_id)
            except _NotLoaded as exc:
                await self._load(caller, exc.missing)

    async def _load(self, caller: Caller, missing: Sequence[tuple[int, int]]) -> None:
        """Counts that Redis does not hold. Raises LedgerUnavailable, and RedisGone and ResponseError if it can't."""
        keys = _keys(caller)
        for place, start_s in missing:
            calls = await self._count_calls(caller, caller.request_limits[place][0], start_s * 1000)
            await self._pipe.call(1, keys[place], start_s, calls, again=True, script=_COUNT)

    def _take_locally(self, caller: Caller, now_ns: int, now_ms: int) -> Verdict | None:
        keys = _keys(caller)
        self._uncounted.update(keys[i] for i, (limit, _) in enumerate(caller.request_limits) if not limit.is_rate)
        return self._local.try_take(caller, now_ns=now_ns, now_ms=now_ms)

    def _drop_uncounted(self) -> None:
        """A connection stands again: what was counted here is in the usage log, or on its way there."""
        self._local.forget_counts()
        keys, self._uncounted = self._uncounted, set()
        for key in keys:
            self._drop(key)

    def _drop(self, key: str) -> None:
        """Lost with this connection too, it is the next one's."""

        def done(reply: Any) -> None:
            if isinstance(reply, Exception):
                self._uncounted.add(key)

        try:
            self._pipe.send(("DEL", key), done, again=True)
        except RedisGone as exc:
            done(exc)


def _share_out(reply: Any, calls: int) -> Sequence[_Part]:
    """The reply's part for each of the calls that asked together."""
    if isinstance(reply, Exception):
        return [reply] * calls
    if reply[1]:
        return [_NotLoaded(_missing(reply))] * calls
    size = (len(reply) - 2) // calls
    return [reply[start : start + size] for start in range(2, len(reply), size)]


def _missing(reply: Sequence[int]) -> Sequence[tuple[int, int]]:
    """Of the counts that Redis does not hold: the place of each limit, and the start of its window in seconds."""
    return [(reply[i] - 1, reply[i + 1]) for i in range(2, len(reply), 2)]


def _command(caller: Caller, call_id: str, calls: int) -> tuple[Any, ...]:
    keys = _keys(caller)
    told: list[Any] = []
    for limit, _ in caller.request_limits:
        told += (limit.period_s * _US if limit.is_rate else limit.window.value, limit.amount)
    # asked again with other calls beside it, it is another question: the answer must have a part for each
    return (len(keys) + 1, f"{_tag(caller)}said:{call_id}:{calls}", *keys, calls, *told)


def _tag(caller: Caller) -> str:
    return f"darkroom:{{{caller.team_id or caller.user_id}}}:"


def _keys(caller: Caller) -> list[str]:
    tag = _tag(caller)
    return [tag + key for _, key in caller.request_limits]


def _verdict(caller: Caller, part: Sequence[int], now_ms: int) -> Verdict:
    states = _states(caller, part[1:])
    if not part[0]:
        return Verdict(states, None)
    limit, _ = caller.request_limits[part[0] - 1]
    reset_us: int | None = part[2 * part[0]]
    if limit.is_rate:  # room for one call comes before all is free again
        spacing_us = -(-limit.period_s * _US // max(limit.amount, 1))
        reset_us = part[2 * part[0]] + spacing_us - spacing_us * limit.amount
    reset_ms = None if reset_us is None or reset_us < 0 else now_ms + reset_us // 1000
    return Verdict(states, refusal(limit, asked=1, left=0, reset_ms=reset_ms, now_ms=now_ms))


def _states(caller: Caller, told: Sequence[int]) -> list[RateState]:
    """Two numbers a limit: what is left, and microseconds until it is whole again. Counts not loaded are left out."""
    states = []
    for place, (limit, _) in enumerate(caller.request_limits):
        left, reset_us = told[2 * place], told[2 * place + 1]
        if left >= 0:
            states.append(RateState(limit, left, None if reset_us < 0 else -(-reset_us // _US)))
    return states
