"""Hits beside LiteLLM's proxy and nginx's `proxy_cache`, in turn, on the same core, with the same bodies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hits import CONNECTIONS, PICTURES, ROUND_S, ROUNDS, cores
from benchmarks.peers.litellm import CACHED, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.process import Peer, Watched
from benchmarks.peers.work import Patient, Provider, picture, post, write_bodies
from benchmarks.report import Row, median_ratio
from benchmarks.servers import Gateway

_WARM_UP_S = 2
_DRAINED_WITHIN_S = 30.0


@dataclass(frozen=True)
class _Run:
    server: Watched
    generator: Patient


@dataclass(frozen=True)
class _Round:
    per_s: float
    cpu_us: float


def measure(folder: Path, provider: Provider) -> list[Row]:
    """`folder` gets everybody's files."""
    served, load = cores()
    bodies = [picture(number, seed=number) for number in range(1, PICTURES + 1)]
    file = write_bodies(folder / "hits", bodies)
    url = provider.base_url
    with Gateway(folder / "darkroom-hits", url).on(served) as gateway:
        key = gateway.new_key()
        post(gateway.base_url, key, bodies)

        def against(*peers: Peer) -> list[list[_Round]]:
            with ExitStack() as stack:
                runs = [_Run(stack.enter_context(peer), Patient(folder, file, peer.key, load)) for peer in peers]
                for peer in peers:
                    post(peer.base_url, peer.key, bodies)
                return _alternating([_Run(gateway, Patient(folder, file, key, load)), *runs], provider)

        ours, theirs = against(litellm(folder / "litellm-hits", url, CACHED, cores=served))
        rows = _rows("LiteLLM", ours, theirs, per_s=">= 100, aim 150")
        as_shipped = nginx(folder / "nginx-hits", url, cores=served)
        tuned = nginx(folder / "nginx-tuned-hits", url, tuned=True, cores=served)
        ours, theirs, best = against(as_shipped, tuned)
    rows += _rows("nginx", ours, theirs, cpu=">= 0.20, aim 0.30")
    return rows + _rows("tuned nginx", ours, best)


def _alternating(runs: list[_Run], provider: Provider) -> list[list[_Round]]:
    """The rounds of each. Raises RuntimeError when anything that should have been a hit reached the provider."""
    for run in runs:
        run.generator.run(run.server.base_url, connections=CONNECTIONS, seconds=_WARM_UP_S)
    before = provider.calls()
    rounds = [list[_Round]() for _ in runs]
    for _ in range(ROUNDS):
        for run, found in zip(runs, rounds, strict=True):
            found.append(_round(run))
    if asked := provider.calls() - before:
        raise RuntimeError(f"Not all were hits: {asked} calls went to the provider")
    return rounds


def _round(run: _Run) -> _Round:
    """The gateway's CPU counts until its usage rows are in SQL."""
    server = run.server
    if isinstance(server, Gateway):
        _drain(server)  # of its warm-up
    cpu_s = server.cpu_s
    load = run.generator.run(server.base_url, connections=CONNECTIONS, seconds=ROUND_S)
    if isinstance(server, Gateway):
        _drain(server)
    return _Round(load.per_s, (server.cpu_s - cpu_s) / load.requests * 1e6)


def _drain(gateway: Gateway) -> None:
    until = time.monotonic() + _DRAINED_WITHIN_S
    while gateway.journal_lag_rows() and time.monotonic() < until:
        time.sleep(0.02)


def _rows(name: str, ours: list[_Round], theirs: list[_Round], *, per_s: str = "", cpu: str = "") -> list[Row]:
    """`per_s` and `cpu` are what is to be reached."""
    return [
        _row(f"Hits per second, ours to {name}'s", "/s", [r.per_s for r in ours], [r.per_s for r in theirs], per_s),
        _row(
            f"CPU a hit, {name}'s to ours", "µs", [r.cpu_us for r in ours], [r.cpu_us for r in theirs], cpu, cost=True
        ),
    ]


def _row(
    name: str, unit: str, ours: Sequence[float], theirs: Sequence[float], reach: str, *, cost: bool = False
) -> Row:
    """`cost`: theirs is divided by ours, so that more is better for us in every row."""
    above, below = (theirs, ours) if cost else (ours, theirs)
    each = [a / b for a, b in zip(above, below, strict=True)]
    shown, beside = (f"{statistics.median(some):,.4g} {unit}" for some in (ours, theirs))
    return Row(name, shown, beside, ratio=median_ratio(above, below), rounds=each, reach=reach)
