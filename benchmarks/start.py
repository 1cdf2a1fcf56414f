"""From the start of the process to ready, and the resident memory of an idle one.

The first start makes the database and is shown alone; the others find it.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.rows import Bench, Found, Row
from benchmarks.servers import Gateway, ProviderServer

STARTS = 5
_IDLE_S = 0.5


def measure(bench: Bench) -> Found:
    folder = bench.subfolder("start")
    taken_s, memory_mb = list[float](), list[float]()
    with ProviderServer(folder / "provider.log") as provider:
        for _ in range(2 if bench.quick else STARTS):
            with Gateway(folder / "gateway", provider.base_url) as gateway:
                taken_s.append(gateway.ready_after_s)
                time.sleep(_IDLE_S)
                memory_mb.append(gateway.memory_bytes / 1e6)
    first, *again = taken_s
    return Found(
        [
            Row(
                "Start to ready",
                statistics.median(again),
                "s",
                each=again,
                reach=2,
                aim=1,
                ours=f"{first:.2f} s with the database still to be made",
            ),
            Row("Idle memory", statistics.median(memory_mb), "MB", each=memory_mb, reach=120, aim=80),
        ]
    )
