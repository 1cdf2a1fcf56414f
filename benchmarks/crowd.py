"""Thousands of calls open at once, in a process of their own: one connection a call, held until it is answered.

`python -m benchmarks.crowd PORT BODIES HEADERS WITHIN_S` makes one call of each line of BODIES, and says when all are
sent; then, when all are answered, or WITHIN_S later, what came of them. Times are of the machine's monotonic clock, in
seconds.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.calls import write
from benchmarks.load import call_headers
from benchmarks.machine import kept_to
from benchmarks.own_client import is_whole, read_requests

_DIALLED_AT_ONCE = 64
_LONGEST_S = 600
_SHOWN_BYTES = 4096


@dataclass(frozen=True)
class Answers:
    """`answered` are those of status 200. Started: before the first was dialled. Last: the last answer was whole.

    `a_refusal` is another answer, or says why there was none.
    """

    answered: int
    refused: int
    started_s: float
    last_s: float
    a_refusal: str = ""


class Crowd:
    """A context manager: the calls are sent inside; `answers` or `outcome` waits for them.

    `headers` are sent besides the key. After `within_s` those not answered are given up.
    """

    def __init__(
        self,
        base_url: str,
        bodies: list[dict[str, object]],
        key: str,
        folder: Path,
        *,
        headers: dict[str, str] | None = None,
        within_s: float = _LONGEST_S,
        cores: set[int] | None = None,
    ) -> None:
        file = write(folder / f"crowd-{bodies[0]['seed']}", bodies)
        said = json.dumps(call_headers(key, headers or {}))
        self._arguments = [str(urlsplit(base_url).port), str(file), said, str(within_s)]
        self._cores = cores

    def __enter__(self) -> Self:
        module = [sys.executable, "-m", "benchmarks.crowd"]
        with kept_to(self._cores):
            self._process = subprocess.Popen([*module, *self._arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def waits(self) -> bool:
        """Whether any call may still be answered."""
        return self._process.poll() is None

    def outcome(self) -> Answers:
        assert self._process.stdout is not None
        return Answers(**json.loads(self._process.stdout.read()))

    def answers(self) -> Answers:
        """Raises RuntimeError when any call was not answered by a 200."""
        found = self.outcome()
        if found.refused:
            raise RuntimeError(f"{found.refused} calls were refused, one with {found.a_refusal}")
        return found


class _Call(asyncio.Protocol):
    def __init__(self, request: bytes, done: asyncio.Future[bytes]) -> None:
        self._request = request
        self._done = done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)  # uvloop's own class is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if is_whole(self._buffer):
            self._done.set_result(self._buffer)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(f"the connection closed: {exc}".encode())


async def _open(port: int, requests: list[bytes], within_s: float) -> Answers:
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(_DIALLED_AT_ONCE)
    made: list[asyncio.BaseTransport] = []

    async def dial(request: bytes) -> asyncio.Future[bytes]:
        done: asyncio.Future[bytes] = loop.create_future()
        async with gate:
            try:
                transport, _ = await loop.create_connection(lambda: _Call(request, done), "127.0.0.1", port)
                made.append(transport)
            except OSError as no:
                done.set_result(f"no connection: {no}".encode())
        return done

    started_s = time.monotonic()
    waiting = await asyncio.gather(*map(dial, requests))
    print("sent", flush=True)
    answered, given_up = await asyncio.wait(waiting, timeout=within_s)
    last_s = time.monotonic()
    for transport in made:
        transport.close()
    found = [done.result() for done in answered] + [b"no answer in time"] * len(given_up)
    refused = [answer for answer in found if not answer.startswith(b"HTTP/1.1 200")]
    example = refused[0][:_SHOWN_BYTES].decode(errors="replace") if refused else ""
    return Answers(len(found) - len(refused), len(refused), started_s, last_s, example)


def main() -> None:
    port, bodies, headers, within_s = sys.argv[1:]
    found = uvloop.run(_open(int(port), read_requests(bodies, headers), float(within_s)))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
