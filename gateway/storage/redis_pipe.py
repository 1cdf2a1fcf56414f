"""One connection to Redis or Valkey that every store of the process shares.

Whatever is asked in one turn of the loop leaves in one write, and replies come back in order: a call that waits for
Redis costs a few microseconds, where a client with a pool takes hundreds. The connection itself (addresses, TLS,
credentials) is redis-py's.

Server gone, frozen or black-holed: what was asked is refused with `RedisGone` within `timeout_s`, and from then on at
once, until a connection stands again. Nothing is sent twice but what says that it may be (`again`): redis-py's own
retries are not in the way.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from gateway.errors import ConfigurationError

_PAUSES_S = (0.0, 0.1, 0.25, 0.5)
_CONNECT_TIMEOUT_S = 1.0
_log = structlog.get_logger(__name__)

Done = Callable[[Any], None]
"""Called once, on the loop, with the reply: a value, or an exception (`RedisGone`, or what the server objected to)."""
Command = tuple[Any, ...]


class RedisGone(Exception):
    """Redis can't be used right now. What was asked may have been done all the same."""


class Script:
    """A Lua script. It is sent by its hash, and with its text when the server does not know it (yet, or any more)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Asked:
    """`spelt_out`: the server was found not to know the script."""

    __slots__ = ("again", "command", "deadline_s", "done", "script", "spelt_out")

    def __init__(self, command: Command, done: Done, deadline_s: float, *, again: bool, script: Script | None) -> None:
        self.command = command
        self.done = done
        self.deadline_s = deadline_s
        self.again = again
        self.script = script
        self.spelt_out = False

    @property
    def full_command(self) -> Command:
        if self.script is None:
            return self.command
        if self.spelt_out:
            return ("EVAL", self.script.text, *self.command)
        return ("EVALSHA", self.script.sha1, *self.command)


class RedisPipe:
    """`run` keeps the connection; `send` and `call` use it. Everything happens on one event loop."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._pool = redis_pool(url)
        self._timeout_s = timeout_s
        self._queue: list[_Asked] = []
        self._sent: deque[_Asked] = deque()
        self._wake = asyncio.Event()
        self._on_up: list[Callable[[], None]] = []
        self._stands = asyncio.Event()
        self._reported = False
        self.up = False
        """Whether a connection stands, as far as is known."""

    def when_up(self, tell: Callable[[], None]) -> None:
        """`tell` is called whenever a connection stands anew."""
        self._on_up.append(tell)

    async def first_try(self) -> None:
        """Wait until the first connection stands, or has had its time to."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stands.wait(), _CONNECT_TIMEOUT_S)

    def send(self, command: Command, done: Done, *, again: bool = False, script: Script | None = None) -> None:
        """Ask; `done` hears the reply. `again`: may be sent a second time when its reply was lost with the connection.

        With a `script` the command is what follows EVALSHA and its hash. Raises RedisGone when there is no connection.
        """
        if not self.up:
            raise RedisGone
        self._queue.append(_Asked(command, done, time.monotonic() + self._timeout_s, again=again, script=script))
        self._wake.set()

    async def call(self, *command: Any, again: bool = False, script: Script | None = None) -> Any:
        """The reply. Raises RedisGone, and ResponseError when the server objects."""
        future = asyncio.get_running_loop().create_future()

        def done(reply: Any) -> None:
            if not future.done():
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)

        self.send(command, done, again=again, script=script)
        return await future

    async def run(self) -> None:
        """For ever: connect, serve, and when that ends connect again."""
        failures = 0
        while True:
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    await connection.connect()
                    await connection.send_command("PING")  # no credentials, no answer: no connection
                    await connection.read_response()
                failures = 0
                self._stand()
                await self._serve(connection)
            except (RedisError, OSError, TimeoutError, RedisGone) as exc:
                failures += 1
                self._report(exc)
            except Exception:  # noqa: BLE001  (whatever it was, those who ask are owed the next connection)
                failures += 1
                _log.exception("redis_pipe_broke")
            finally:
                self._fall()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            self._expire()

    def _stand(self) -> None:
        self.up = True
        self._stands.set()
        if self._reported:
            _log.info("redis_is_back")
        self._reported = False
        waiting, self._queue = self._queue, []
        for tell in self._on_up:  # what the server has to be told comes before what is asked of it again
            tell()
        self._queue += waiting
        self._wake.set()

    def _fall(self) -> None:
        """Refuse what was asked, but for what may be sent again and still has time."""
        self.up = False
        now = time.monotonic()
        lost, self._sent = [*self._sent, *self._queue], deque()
        self._queue = [asked for asked in lost if asked.again and asked.deadline_s > now]
        for asked in lost:
            if not (asked.again and asked.deadline_s > now):
                _tell(asked, RedisGone())
        if self._queue:
            asyncio.get_running_loop().call_later(self._timeout_s, self._expire)

    def _expire(self) -> None:
        """Refuse what waited for a connection in vain."""
        if self.up:
            return
        now = time.monotonic()
        late = [asked for asked in self._queue if asked.deadline_s <= now]
        self._queue = [asked for asked in self._queue if asked.deadline_s > now]
        for asked in late:
            _tell(asked, RedisGone())

    async def _serve(self, connection: Any) -> None:
        tasks = [asyncio.create_task(work(connection)) for work in (self._write, self._read, self._watch)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, connection: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._queue = self._queue, []
            if asked:
                self._sent.extend(asked)
                packed = connection.pack_commands([each.full_command for each in asked])
                await connection.send_packed_command(packed, check_health=False)

    async def _read(self, connection: Any) -> None:
        while True:
            try:
                reply = await connection.read_response()
            except ResponseError as exc:
                reply = exc
            if not self._sent:
                raise RedisGone("a reply that nobody asked for")
            asked = self._sent.popleft()
            if isinstance(reply, NoScriptError) and not asked.spelt_out:
                asked.spelt_out = True
                self._queue.append(asked)
                self._wake.set()
                continue
            _tell(asked, reply)
            if isinstance(reply, ReadOnlyError):  # the primary has become a replica: look who is the primary now
                raise reply

    async def _watch(self, connection: Any) -> None:  # noqa: ARG002
        """A server that says nothing is as good as gone. It is looked at twice: the reply may be here, and not be read
        yet, when it is this process that was busy.
        """
        late: _Asked | None = None
        while True:
            await asyncio.sleep(self._timeout_s / 4)
            first = self._sent[0] if self._sent else None
            if first is None or first.deadline_s >= time.monotonic():
                late = None
            elif first is late:
                raise RedisGone(f"no reply within {self._timeout_s} s")
            else:
                late = first

    def _report(self, exc: Exception) -> None:
        """Once for each stretch of failures."""
        if not self._reported:
            _log.error("redis_gone", reason=f"{type(exc).__name__}: {exc}")
        self._reported = True


def _tell(asked: _Asked, reply: Any) -> None:
    """What one who asked makes of a reply concerns none of the others."""
    try:
        asked.done(reply)
    except Exception:  # noqa: BLE001
        _log.exception("redis_reply_broke")


def redis_pool(url: str) -> ConnectionPool:
    """Connections as Darkroom wants them: the client retries nothing, and waits as long as its caller does.

    Raises ConfigurationError when the URL is none that Redis has.
    """
    try:
        return ConnectionPool.from_url(
            url,
            protocol=2,
            client_name="darkroom",
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=0,
        )
    except ValueError:
        raise ConfigurationError(
            "redis_url: write it like redis://:password@host:6379/0, or rediss:// for TLS"
        ) from None
