"""From the start of the process to ready, and the memory of an idle one."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.report import Row
from benchmarks.servers import Gateway, Server

STARTS = 5


def measure(folder: Path, provider: Server) -> list[Row]:
    """The first start makes the database; the others find it."""
    taken_s, memory = list[float](), list[int]()
    for _ in range(STARTS):
        with Gateway(folder / "started", provider.base_url) as gateway:
            taken_s.append(gateway.ready_after_s)
            time.sleep(0.5)
            memory.append(gateway.memory_bytes)
    again = statistics.median(taken_s[1:])
    return [
        Row("Start to ready", f"{again:.2f} s (the very first: {taken_s[0]:.2f} s)", reach="<= 2 s"),
        Row("Idle memory", f"{statistics.median(memory) / 2**20:.0f} MiB", reach="<= 120 MB"),
    ]
