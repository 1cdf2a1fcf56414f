"""A call that no cache has, at a provider that answers at once: what passing it on costs each gateway."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.hits import CONNECTIONS, ROUND_S, cores
from benchmarks.peers.litellm import PLAIN, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.portkey import portkey
from benchmarks.peers.process import Watched
from benchmarks.peers.report import Beside
from benchmarks.peers.work import Patient, Provider, picture, write_bodies
from benchmarks.servers import Gateway

_ROUNDS = 3
_WARM_UP_S = 3
_PROMPTS = 100


@dataclass
class _Contender:
    server: Watched
    generator: Patient
    cpu_ms: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)

    def run(self) -> None:
        cpu_s = self.server.cpu_s
        load = self.generator.run(self.server.base_url, connections=CONNECTIONS, seconds=ROUND_S)
        self.cpu_ms.append((self.server.cpu_s - cpu_s) / load.requests * 1000)
        self.per_s.append(load.per_s)


def measure(folder: Path, provider: Provider) -> list[Beside]:
    """Medians of alternating runs; the provider is on the load's cores."""
    served, load = cores()
    provider.start_over()
    file = write_bodies(folder / "forwards", [picture(number) for number in range(_PROMPTS)])
    url = provider.base_url
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway(folder / "darkroom-forwards", url).on(served))
        contenders = {"Darkroom": _Contender(gateway, Patient(folder, file, gateway.new_key(), load))}
        for peer in (
            nginx(folder / "nginx-forwards", url, cached=False, cores=served),
            litellm(folder / "litellm-forwards", url, PLAIN, cores=served),
            portkey(folder / "portkey-forwards", url, cores=served),
        ):
            stack.enter_context(peer)
            contenders[peer.name] = _Contender(peer, Patient(folder, file, peer.key, load, peer.headers))
        for each in contenders.values():
            each.generator.run(each.server.base_url, connections=CONNECTIONS, seconds=_WARM_UP_S)
        for _ in range(_ROUNDS):
            for each in contenders.values():
                each.run()

    def shown(figure: Callable[[_Contender], list[float]], unit: str) -> dict[str, str]:
        return {name: f"{statistics.median(figure(each)):,.3g} {unit}" for name, each in contenders.items()}

    return [
        Beside(
            "CPU a call forwarded (Darkroom: bought, its picture fetched and kept)", shown(lambda c: c.cpu_ms, "ms")
        ),
        Beside(f"Such calls a second, {CONNECTIONS} connections", shown(lambda c: c.per_s, "/s")),
    ]
