"""Hits beside LiteLLM's proxy and nginx's `proxy_cache`, in turn, on the same core, with the same bodies."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks.calls import bodies, write
from benchmarks.hits import CONNECTIONS, Round, one_round
from benchmarks.hot_hits import PICTURES, drained_after_s
from benchmarks.machine import cores
from benchmarks.peers.litellm import CACHED, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.peer import Peer
from benchmarks.peers.work import ROUND_S, Contender, Provider
from benchmarks.rows import Row, compared
from benchmarks.servers import Gateway

ROUNDS = 5
_WARM_UP_S = 2


def measure(folder: Path, provider: Provider) -> list[Row]:
    """`folder` gets everybody's files."""
    served, _ = cores()
    url = provider.base_url
    with Gateway(folder / "darkroom-hits", url).on(served) as gateway:
        ours = Contender.ours(gateway)
        _fill(folder, ours)

        def against(*peers: Peer) -> list[list[Round]]:
            with ExitStack() as stack:
                theirs = [Contender.theirs(stack.enter_context(peer.on(served))) for peer in peers]
                for each in theirs:
                    _fill(folder, each)
                return _alternating(folder, gateway, [ours, *theirs], provider)

        litellm_beside = against(litellm(folder / "litellm-hits", url, CACHED))
        as_shipped = nginx(folder / "nginx-hits", url)
        tuned = nginx(folder / "nginx-tuned-hits", url, tuned=True)
        mine, shipped, best = against(as_shipped, tuned)
    return [
        _per_s("LiteLLM", *litellm_beside, reach=100, aim=150),
        _cpu("LiteLLM", *litellm_beside),
        _per_s("nginx", mine, shipped),
        _cpu("nginx", mine, shipped, reach=0.2, aim=0.3),
        _per_s("tuned nginx", mine, best),
        _cpu("tuned nginx", mine, best),
    ]


def _fill(folder: Path, contender: Contender) -> None:
    """Have it buy the pictures, by calls of the same bytes as the load's."""
    with contender.crowd(folder, _wanted()) as crowd:
        crowd.answers()


def _wanted() -> list[dict[str, object]]:
    return bodies(range(1, PICTURES + 1))


def _alternating(folder: Path, gateway: Gateway, contenders: list[Contender], provider: Provider) -> list[list[Round]]:
    """The rounds of each. Raises RuntimeError when anything that should have been a hit reached the provider."""
    file = write(folder / "hits", _wanted())
    runs = [(each.server, each.load(folder, file)) for each in contenders]
    for server, load in runs:
        load.run(server.base_url, connections=CONNECTIONS, seconds=_WARM_UP_S)
    drained_after_s(gateway)
    before = provider.calls()
    rounds = [list[Round]() for _ in runs]
    for _ in range(ROUNDS):
        for (server, load), found in zip(runs, rounds, strict=True):
            found.append(one_round(load, server, ROUND_S))
    if asked := provider.calls() - before:
        raise RuntimeError(f"Not all were hits: {asked} calls went to the provider")
    return rounds


def _per_s(
    name: str, ours: list[Round], theirs: list[Round], *, reach: float | None = None, aim: float | None = None
) -> Row:
    mine, yours = ([r.load.per_s for r in rounds] for rounds in (ours, theirs))
    title = f"Hits per second, ours to {name}'s"
    return compared(title, mine, yours, "/s", reach=reach, aim=aim, more_is_better=True)


def _cpu(
    name: str, ours: list[Round], theirs: list[Round], *, reach: float | None = None, aim: float | None = None
) -> Row:
    mine, yours = ([r.cpu_us for r in rounds] for rounds in (ours, theirs))
    title = f"CPU a hit, {name}'s to ours"
    return compared(title, mine, yours, "µs", reach=reach, aim=aim, more_is_better=True, inverse=True)
