"""Thousands of calls open at once, at a provider that takes its time: who answers them all, and for how much memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.hits import cores
from benchmarks.peers.at_once import Answers, ask_at_once
from benchmarks.peers.litellm import PLAIN, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.portkey import portkey
from benchmarks.peers.process import Watched
from benchmarks.peers.report import Beside
from benchmarks.peers.work import Provider, picture
from benchmarks.servers import Gateway

_CALLS = 2000
_DELAY_S = 5
_WITHIN_S = 90


def measure(folder: Path, provider: Provider) -> list[Beside]:
    served, _ = cores()
    url = provider.base_url
    answered, done, memory = dict[str, str](), dict[str, str](), dict[str, str]()

    def ask(name: str, server: Watched, headers: dict[str, str]) -> None:
        provider.start_over(delay_s=_DELAY_S)
        found, each_kib = _crowd(server, headers)
        answered[name] = f"{found.good:,}"
        done[name] = f"{found.taken_s:.0f} s" if found.good == _CALLS else f"given up after {found.taken_s:.0f} s"
        memory[name] = f"{each_kib:.0f} KiB"

    with _wide_gateway(folder / "darkroom-crowd", url).on(served) as gateway:
        ask("Darkroom", gateway, {"Authorization": f"Bearer {gateway.new_key()}"})
    for peer in (
        nginx(folder / "nginx-crowd", url, cached=False, cores=served),
        litellm(folder / "litellm-crowd", url, PLAIN, cores=served),
        portkey(folder / "portkey-crowd", url, cores=served),
    ):
        with peer:
            ask(peer.name, peer, peer.said)
    return [
        Beside(f"Answered of {_CALLS:,} calls open at once, {_DELAY_S} s each", answered),
        Beside("All done after", done),
        Beside("Memory for each, at the peak", memory),
    ]


def _crowd(server: Watched, headers: dict[str, str]) -> tuple[Answers, float]:
    """The answers, and KiB a call above what the server had at rest. One call first, for what is loaded late."""
    ask_at_once(server.base_url, headers, [picture(_CALLS)], within_s=_WITHIN_S)
    at_rest = server.memory_bytes
    bodies = [picture(number) for number in range(_CALLS)]
    found = ask_at_once(server.base_url, headers, bodies, within_s=_WITHIN_S, watch=lambda: server.memory_bytes)
    return found, (found.peak - at_rest) / 1024 / _CALLS


def _wide_gateway(folder: Path, provider_url: str) -> Gateway:
    """One that may have all of them at the provider; the default, 64 a provider key, would make the others wait."""
    gateway = Gateway(folder, provider_url)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("max_concurrency: 64", f"max_concurrency: {_CALLS}"))
    return gateway
