"""Thousands of equal calls that wait for one purchase: what each holds of memory, and how soon all have the picture.

The provider holds its answer to the one purchase until the gateway has taken in every call and come to rest. Memory:
the growth of resident memory from none waiting to all, by their number, their connections included. Time: from the
moment the provider sends its answer to the last caller's last byte; the gateway fetches, checks and keeps the picture
meanwhile.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.calls import body
from benchmarks.crowd import Crowd
from benchmarks.open_purchases import held_provider
from benchmarks.rows import Bench, Found, Row
from benchmarks.servers import Gateway, ProviderServer

ROUNDS = 3


def measure(bench: Bench) -> Found:
    joiners, rounds = (1000, 1) if bench.quick else (5000, ROUNDS)
    folder = bench.subfolder("joiners")
    memory_kib, taken_s = list[float](), list[float]()
    for number in range(rounds):
        made = bench.subfolder(f"joiners/{number}")
        with held_provider(made, 100) as (gateway, provider, key):
            grown_bytes, last_s = _round(folder, gateway, provider, key, joiners)
        memory_kib.append(grown_bytes / joiners / 1024)
        taken_s.append(last_s)
    rows = [
        Row(
            f"Memory of a joiner ({joiners:,} waiting)",
            statistics.median(memory_kib),
            "KiB",
            each=memory_kib,
            reach=24,
            aim=16,
        ),
        Row(
            f"From the provider's answer to the last of {joiners:,} joiners",
            statistics.median(taken_s),
            "s",
            each=taken_s,
            reach=3,
            aim=1.5,
            ours="one purchase, every call answered",
        ),
    ]
    return Found(rows)


def _round(folder: Path, gateway: Gateway, provider: ProviderServer, key: str, joiners: int) -> tuple[int, float]:
    """Bytes that resident memory grew by, and seconds to the last answer."""
    bought = provider.state().calls
    before = gateway.settled().memory_bytes
    with Crowd(gateway.base_url, [body(10_000)] * joiners, key, folder) as crowd:
        grown_bytes = gateway.settled().memory_bytes - before
        provider.release()
        answers = crowd.answers()
    state = provider.state()
    if state.calls != bought + 1:
        raise RuntimeError(f"{joiners} equal calls made {state.calls - bought} purchases")
    return grown_bytes, answers.last_s - state.last_answer_s
