"""Thousands of purchases open at once on one process: what each holds of memory, and how long all take.

Memory: the provider holds its answers; calls are opened in steps, and at each step, once the gateway has come to rest,
its resident memory is read. Each: the growth from none open to all open, by their number: connections, calls,
purchases and the connections to the provider together. Before that four pictures are bought, so that what is made once
is not counted. Then the provider lets go, and every call must be answered.

Time: all calls are made at once, the provider answers each after the same time, and its pictures are fetched, checked
and kept. The figure is the time from the first call to the last answer beside the provider's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

from benchmarks.calls import bodies
from benchmarks.crowd import Crowd
from benchmarks.rows import Bench, Found, Plot, Row, Series
from benchmarks.servers import Gateway, ProviderServer

STEPS = 4
_WARM_CALLS = 4
_OPEN_WITHIN_S = 180.0


def measure(bench: Bench) -> Found:
    calls, provider_s = (400, 4) if bench.quick else (2000, 20)
    folder = bench.subfolder("open_purchases")
    points = _memory(folder, calls)
    rows = [
        Row(
            f"Memory of an open purchase ({calls:,} open)",
            (points[-1][1] - points[0][1]) * 1024 / calls,
            "KiB",
            each=[(after - before) * 1024 / (calls // STEPS) for (_, before), (_, after) in pairwise(points)],
            reach=48,
            aim=44,
            ours=f"{points[0][1]:.0f} MiB with none open, {points[-1][1]:.0f} MiB with all",
        ),
        _timed(folder, calls, provider_s, reach=2, aim=1.5),
    ]
    if not bench.quick:
        rows.append(_timed(folder, 5000, 60))
    plot = Plot(
        "memory",
        "Memory against open purchases",
        "Purchases open",
        "Resident memory, MiB",
        [Series("Darkroom, one process", points)],
    )
    return Found(rows, [plot])


@contextmanager
def held_provider(folder: Path, calls: int) -> Iterator[tuple[Gateway, ProviderServer, str]]:
    """A gateway that has bought before, with room for `calls`, and a key; the provider holds its answers."""
    with (
        ProviderServer(folder / "held-provider.log", "held") as provider,
        Gateway(folder / "held", provider.base_url, max_concurrency=2 * calls) as gateway,
    ):
        key = gateway.new_key()
        with Crowd(gateway.base_url, bodies(range(1, _WARM_CALLS + 1)), key, folder) as crowd:
            wait_open(provider, _WARM_CALLS)
            provider.release()
            crowd.answers()
        yield gateway, provider, key


def wait_open(provider: ProviderServer, calls: int) -> None:
    """Until so many calls wait for the provider at once."""
    started = time.monotonic()
    while (state := provider.state()).open < calls:
        if time.monotonic() - started > _OPEN_WITHIN_S:
            raise RuntimeError(f"{state.open} of {calls} calls reached the provider in {_OPEN_WITHIN_S:.0f} s")
        time.sleep(0.05)


def _memory(folder: Path, calls: int) -> list[tuple[float, float]]:
    """Calls open, and resident MiB with them."""
    step = calls // STEPS
    with held_provider(folder, calls) as (gateway, provider, key), ExitStack() as crowds:
        found = [(0.0, gateway.settled().memory_bytes / 2**20)]
        made = list[Crowd]()
        for opened in range(step, calls + 1, step):
            wanted = bodies(range(10_000 + opened - step, 10_000 + opened))
            made.append(crowds.enter_context(Crowd(gateway.base_url, wanted, key, folder)))
            wait_open(provider, opened)
            found.append((opened, gateway.settled().memory_bytes / 2**20))
        provider.release()
        for crowd in made:
            crowd.answers()
    return found


def _timed(folder: Path, calls: int, provider_s: int, *, reach: float | None = None, aim: float | None = None) -> Row:
    with (
        ProviderServer(folder / "provider.log", provider_s) as provider,
        Gateway(folder / f"{calls}", provider.base_url, max_concurrency=2 * calls) as gateway,
    ):
        key = gateway.new_key()
        with Crowd(gateway.base_url, bodies(range(1, calls + 1)), key, folder) as crowd:
            answers = crowd.answers()
        most, bought = provider.state().most_open, provider.state().calls
    taken_s = answers.last_s - answers.started_s
    return Row(
        f"{calls:,} purchases at once beside the provider's {provider_s} s",
        taken_s / provider_s,
        reach=reach,
        aim=aim,
        ours=f"{taken_s:.1f} s; {answers.answered:,} answered of {bought:,} bought, at most {most:,} at the provider",
        yardstick=f"{provider_s} s",
    )
