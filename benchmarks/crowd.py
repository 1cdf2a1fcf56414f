"""Thousands of calls open at once, in a process of their own: one connection a call, held until it is answered.

`python -m benchmarks.crowd PORT BODIES KEY` makes one call of each line of BODIES, and says when all are sent; then,
when all are answered, what came of them. Times are of the machine's monotonic clock, in seconds.
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

from benchmarks.own_client import is_whole, request_bytes

_DIALLED_AT_ONCE = 64
_LONGEST_S = 600


@dataclass(frozen=True)
class Answers:
    """`answered` are those of status 200. Started: before the first was dialled. Last: the last answer was whole."""

    answered: int
    refused: int
    started_s: float
    last_s: float
    a_refusal: str = ""


class Crowd:
    """A context manager: the calls are sent inside; `answers` waits for them."""

    def __init__(self, base_url: str, bodies: list[dict[str, object]], key: str, folder: Path) -> None:
        self._file = folder / f"crowd-{bodies[0]['seed']}"
        self._file.write_text("\n".join(map(json.dumps, bodies)), encoding="utf-8")
        self._arguments = [str(urlsplit(base_url).port), str(self._file), key]

    def __enter__(self) -> Self:
        module = [sys.executable, "-m", "benchmarks.crowd"]
        self._process = subprocess.Popen([*module, *self._arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answers(self) -> Answers:
        """Raises RuntimeError when any call was not answered by a 200."""
        said, _ = self._process.communicate(timeout=_LONGEST_S)
        found = Answers(**json.loads(said))
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


async def _open(port: int, requests: list[bytes]) -> Answers:
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(_DIALLED_AT_ONCE)
    made: list[asyncio.BaseTransport] = []

    async def dial(request: bytes) -> asyncio.Future[bytes]:
        done: asyncio.Future[bytes] = loop.create_future()
        async with gate:
            transport, _ = await loop.create_connection(lambda: _Call(request, done), "127.0.0.1", port)
        made.append(transport)
        return done

    started_s = time.monotonic()
    waiting = await asyncio.gather(*map(dial, requests))
    print("sent", flush=True)
    found = await asyncio.gather(*waiting)
    last_s = time.monotonic()
    for transport in made:
        transport.close()
    refused = [answer for answer in found if not answer.startswith(b"HTTP/1.1 200")]
    example = refused[0].decode(errors="replace") if refused else ""
    return Answers(len(found) - len(refused), len(refused), started_s, last_s, example)


def main() -> None:
    port, bodies, key = sys.argv[1:]
    requests = [request_bytes(body, key) for body in Path(bodies).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(asdict(uvloop.run(_open(int(port), requests)))))


if __name__ == "__main__":
    main()
