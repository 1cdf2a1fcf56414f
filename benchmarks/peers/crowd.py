"""Thousands of calls open at once, at a provider that takes its time: who answers them all, and for how much memory."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.calls import bodies, body
from benchmarks.crowd import Answers
from benchmarks.machine import cores
from benchmarks.peers.litellm import PLAIN, litellm
from benchmarks.peers.nginx import nginx
from benchmarks.peers.portkey import portkey
from benchmarks.peers.report import Beside
from benchmarks.peers.work import Contender, Provider
from benchmarks.servers import Gateway

_CALLS = 2000
_DELAY_S = 5
_LOOK_EVERY_S = 0.25


def measure(folder: Path, provider: Provider) -> list[Beside]:
    served, _ = cores()
    url = provider.base_url
    answered, done, memory = dict[str, str](), dict[str, str](), dict[str, str]()

    def ask(asked: Contender) -> None:
        provider.start_over(delay_s=_DELAY_S)
        found, each_kib = _crowd(folder, asked)
        taken_s = found.last_s - found.started_s
        answered[asked.name] = f"{found.answered:,}"
        done[asked.name] = f"given up after {taken_s:.0f} s" if found.refused else f"{taken_s:.0f} s"
        memory[asked.name] = f"{each_kib:.0f} KiB"

    # The default, 64 at once with a provider key, would make the others wait.
    with Gateway(folder / "darkroom-crowd", url, max_concurrency=_CALLS).on(served) as gateway:
        ask(Contender.ours(gateway))
    for peer in (
        nginx(folder / "nginx-crowd", url, cached=False),
        litellm(folder / "litellm-crowd", url, PLAIN),
        portkey(folder / "portkey-crowd", url),
    ):
        with peer.on(served):
            ask(Contender.theirs(peer))
    return [
        Beside(f"Answered of {_CALLS:,} calls open at once, {_DELAY_S} s each", answered),
        Beside("All done after", done),
        Beside("Memory for each, at the peak", memory),
    ]


def _crowd(folder: Path, asked: Contender) -> tuple[Answers, float]:
    """The answers, and KiB a call above what the server had at rest. One call first, for what is loaded late."""
    with asked.crowd(folder, [body(_CALLS + 1)]) as first:
        first.outcome()
    at_rest = peak = asked.server.memory_bytes
    with asked.crowd(folder, bodies(range(1, _CALLS + 1))) as crowd:
        while crowd.waits:
            peak = max(peak, asked.server.memory_bytes)
            time.sleep(_LOOK_EVERY_S)
        found = crowd.outcome()
    return found, (peak - at_rest) / 1024 / _CALLS
