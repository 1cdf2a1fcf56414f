"""A gateway that holds a hundred pictures in memory, and a bare ASGI app beside it that sends the bytes of a hit.

One key, two rolling limits, the pictures asked in turn. Server and load are kept to cores of their own, and each run
against one is followed by a run against the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.bare_app import keep_answer
from benchmarks.calls import bodies, write
from benchmarks.load import PATH, Generator, Load
from benchmarks.machine import cores
from benchmarks.servers import Gateway, ProviderServer, Server, bare_server

PICTURES = 100
_WARM_S = 2
_WARM_CONNECTIONS = 32
_LAG_WITHIN_S = 30.0


@dataclass(frozen=True)
class Hot:
    """Both servers, warm, and what makes load on them."""

    gateway: Gateway
    bare: Server
    generator: Generator


@contextmanager
def hot_servers(folder: Path, *, warm_start: bool = False) -> Iterator[Hot]:
    served, load = cores()
    wanted = bodies(range(1, PICTURES + 1))
    file, answer = write(folder / "bodies", wanted), folder / "answer"
    with (
        ProviderServer(folder / "provider.log") as provider,
        Gateway(folder / "gateway", provider.base_url).on(served) as gateway,
    ):
        key = gateway.new_key()
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            for body in wanted:
                client.post(gateway.base_url + PATH, json=body).raise_for_status()
            hit = client.post(gateway.base_url + PATH, json=wanted[0])
        keep_answer(answer, hit.headers.multi_items(), hit.content)
        with bare_server(answer, folder / "bare.log").on(served) as bare:
            hot = Hot(gateway, bare, Generator(folder, file, key, load, warm_start))
            for server in (bare, gateway):
                hot.generator.run(server.base_url, connections=_WARM_CONNECTIONS, seconds=_WARM_S)
            drained_after_s(gateway)
            yield hot


def alternate(hot: Hot, *, connections: int, seconds: float, rounds: int) -> tuple[list[Load], list[Load]]:
    """Runs against the gateway, and against the bare app. A run begins when the rows of the last are in SQL."""
    ours, bare = list[Load](), list[Load]()
    for _ in range(rounds):
        bare.append(hot.generator.run(hot.bare.base_url, connections=connections, seconds=seconds))
        ours.append(hot.generator.run(hot.gateway.base_url, connections=connections, seconds=seconds))
        drained_after_s(hot.gateway)
    return ours, bare


def drained_after_s(gateway: Gateway) -> float:
    """Seconds until no usage row waits for SQL; infinite when some still do after half a minute."""
    started = time.monotonic()
    while gateway.journal_lag_rows():
        if time.monotonic() - started > _LAG_WITHIN_S:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic() - started
