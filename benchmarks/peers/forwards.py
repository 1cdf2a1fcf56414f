"""A call that no cache has, at a provider that answers at once: what passing it on costs each gateway."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.calls import unseeded, write
from benchmarks.hits import CONNECTIONS, Round, one_round
from benchmarks.machine import cores
from benchmarks.peers.litellm import PLAIN, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.portkey import portkey
from benchmarks.peers.report import Beside
from benchmarks.peers.work import ROUND_S, Contender, Provider
from benchmarks.servers import Gateway

_ROUNDS = 3
_WARM_UP_S = 3
_PROMPTS = 100


def measure(folder: Path, provider: Provider) -> list[Beside]:
    """Medians of alternating runs; the provider is on the load's cores."""
    served, _ = cores()
    provider.start_over()
    file = write(folder / "forwards", map(unseeded, range(1, _PROMPTS + 1)))
    url = provider.base_url
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway(folder / "darkroom-forwards", url).on(served))
        peers = (
            nginx(folder / "nginx-forwards", url, cached=False),
            litellm(folder / "litellm-forwards", url, PLAIN),
            portkey(folder / "portkey-forwards", url),
        )
        theirs = [Contender.theirs(stack.enter_context(peer.on(served))) for peer in peers]
        rounds = _alternating(folder, file, [Contender.ours(gateway), *theirs])

    def shown(figure: Callable[[Round], float], unit: str) -> dict[str, str]:
        return {name: f"{statistics.median(map(figure, found)):,.3g} {unit}" for name, found in rounds.items()}

    return [
        Beside(
            "CPU a call forwarded (Darkroom: bought, its picture fetched and kept)",
            shown(lambda r: r.cpu_us / 1000, "ms"),
        ),
        Beside(f"Such calls a second, {CONNECTIONS} connections", shown(lambda r: r.load.per_s, "/s")),
    ]


def _alternating(folder: Path, file: Path, contenders: list[Contender]) -> dict[str, list[Round]]:
    for each in contenders:
        each.load(folder, file).run(each.server.base_url, connections=CONNECTIONS, seconds=_WARM_UP_S)
    rounds: dict[str, list[Round]] = {each.name: [] for each in contenders}
    for _ in range(_ROUNDS):
        for each in contenders:
            rounds[each.name].append(one_round(each.load(folder, file), each.server, ROUND_S))
    return rounds
