"""A load generator with a warm start. `python -m benchmarks.own_client PORT BODIES HEADERS CONNECTIONS SECONDS`.

Every connection has had one answer before all begin at once: uvloop takes in one new connection a turn of its loop,
so that among hundreds that are busy from the start, the last wait for seconds before they are even accepted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.load import BINS_PER_DECADE, PATH, Load

_OK = b"HTTP/1.1 200"
_LENGTH = b"ontent-length: "
_LENGTH_TITLED = b"ontent-Length: "


class _Run:
    """What its connections share. Latencies in microseconds go to `taken`."""

    def __init__(self, requests: list[bytes]) -> None:
        self.turns = itertools.cycle(requests)
        self.taken: list[int] = []
        self.errors = 0
        self.begun = False


class _Connection(asyncio.Protocol):
    """Sends one request, and, once the run has begun, the next when the answer to the last is whole."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._buffer = b""
        self.warm = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass
        self.send()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not is_whole(data):
            self._buffer = data
            return
        self._buffer = b""
        run = self._run
        if not data.startswith(_OK):
            run.errors += 1
        if run.begun:
            run.taken.append((time.perf_counter_ns() - self._sent_ns) // 1000)
            self.send()
        else:
            self.warm.set()

    def send(self) -> None:
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(next(self._run.turns))


def is_whole(answer: bytes) -> bool:
    """Whether all of an answer is there. Quick: it must not be the client that is measured."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = answer.find(_LENGTH, 0, end)
    if at < 0:
        at = answer.index(_LENGTH_TITLED, 0, end)
    at += len(_LENGTH)
    return len(answer) >= end + 4 + int(answer[at : answer.index(b"\r", at)])


def request_bytes(body: str, headers: dict[str, str]) -> bytes:
    said = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(body.encode()))}
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"POST {PATH} HTTP/1.1\r\n{head}\r\n{body}".encode()


def read_requests(bodies: str, headers: str) -> list[bytes]:
    """Of a file with a body a line, and headers in JSON."""
    lines = Path(bodies).read_text(encoding="utf-8").splitlines()
    return [request_bytes(line, json.loads(headers)) for line in lines]


async def _load(port: int, requests: list[bytes], connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    run, made = _Run(requests), list[tuple[asyncio.Transport, _Connection]]()
    for _ in range(connections):
        made.append(await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port))
        await made[-1][1].warm.wait()
    run.begun = True
    started = time.perf_counter_ns()
    for _, connection in made:
        connection.send()
    await asyncio.sleep(seconds)
    duration_us = (time.perf_counter_ns() - started) // 1000
    for transport, _ in made:
        transport.abort()
    taken = sorted(run.taken)
    p50_us, p99_us = (taken[len(taken) * share // 100] for share in (50, 99))
    bins = dict(Counter(str(math.floor(math.log10(us) * BINS_PER_DECADE)) for us in taken))
    return Load(len(taken), duration_us, p50_us, p99_us, run.errors, bins)


def main() -> None:
    port, bodies, headers, connections, seconds = sys.argv[1:]
    requests = read_requests(bodies, headers)
    print(json.dumps(asdict(uvloop.run(_load(int(port), requests, int(connections), float(seconds))))))


if __name__ == "__main__":
    main()
