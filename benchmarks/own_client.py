"""A load generator for machines without wrk. `python -m benchmarks.own_client PORT BODIES KEY CONNECTIONS SECONDS`."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.load import PATH


class _Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last is whole. Latencies in microseconds go to `taken`."""

    def __init__(self, requests: itertools.cycle[bytes], taken: list[int], errors: list[bytes]) -> None:
        self._requests = requests
        self._taken = taken
        self._errors = errors
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank or len(body) < int(head.lower().partition(b"\r\ncontent-length:")[2].split()[0]):
            return
        self._taken.append((time.perf_counter_ns() - self._sent_ns) // 1000)
        if not head.startswith(b"HTTP/1.1 200"):
            self._errors.append(head)
        self._buffer = b""
        self._send()

    def _send(self) -> None:
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(next(self._requests))


def request_bytes(body: str, key: str) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


async def _load(port: int, requests: list[bytes], connections: int, seconds: float) -> dict[str, int]:
    loop = asyncio.get_running_loop()
    turns, taken, errors = itertools.cycle(requests), list[int](), list[bytes]()
    started = time.perf_counter_ns()
    made = [
        await loop.create_connection(lambda: _Connection(turns, taken, errors), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    duration_us = (time.perf_counter_ns() - started) // 1000
    for transport, _ in made:
        transport.abort()
    taken.sort()
    p50_us, p99_us = (taken[len(taken) * share // 100] for share in (50, 99))
    return {
        "requests": len(taken),
        "duration_us": duration_us,
        "p50_us": p50_us,
        "p99_us": p99_us,
        "errors": len(errors),
    }


def main() -> None:
    port, bodies, key, connections, seconds = sys.argv[1:]
    requests = [request_bytes(body, key) for body in Path(bodies).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(uvloop.run(_load(int(port), requests, int(connections), float(seconds)))))


if __name__ == "__main__":
    main()
