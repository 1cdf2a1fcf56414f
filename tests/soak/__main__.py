"""A hundred random kill -9 under mixed load, then quiet: bill beside books, to the micro-dollar. `make soak`.

SOAK_KILLS (100) and SOAK_S (900) bound it; SOAK_SEED makes the same chances again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from gateway.demo.provider import FakeProvider, running
from tests.soak.load import SEED, MixedLoad, impatient_provider
from tests.soak.verdict import CALLS_AND_COST, IDS, TOTALS, compare, differences, quiet, usage_faults
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.http_client import open_client

KILLS = int(os.environ.get("SOAK_KILLS", "100"))
LONGEST_S = float(os.environ.get("SOAK_S", "900"))
_PROVIDER_KEYS = ["provider-secret", "second-secret", "third-secret"]


async def main() -> int:
    fake = FakeProvider(keys=_PROVIDER_KEYS, delay_s=0.1)
    with tempfile.TemporaryDirectory(prefix="darkroom-soak-") as name:
        folder = Path(name)
        async with running(fake) as url, open_client(connect_timeout_s=30) as http:
            process = GatewayProcess(folder / "data", url, folder / "log", provider=impatient_provider(_PROVIDER_KEYS))
            await process.start()
            try:
                return await soak(process, Gateway(process.base_url, http), fake, folder)
            finally:
                process.kill()


async def soak(process: GatewayProcess, gateway: Gateway, fake: FakeProvider, folder: Path) -> int:
    started = time.monotonic()
    budget = {"metric": "cost_usd", "window": "month", "amount": "1000000"}
    keys = [await gateway.new_key(limits=[budget]) for _ in range(3)]
    load = MixedLoad(gateway, fake, keys, seed=SEED)
    kills = await torment(process, load, started)
    fake.script.clear()
    fake.mend_images()
    await process.start()
    footprint = psutil.Process(process.pid)
    rows = await quiet(gateway)
    figures = {
        "seed": SEED,
        "kills": kills,
        "seconds": round(time.monotonic() - started),
        "calls": sum(load.outcomes.values()),
        "outcomes": dict(sorted(load.outcomes.items())),
        "purchases": len(rows),
        "states": dict(Counter(row["status"] for row in rows)),
        "settled_by": dict(Counter(row["settled_by"] or "answer in time" for row in rows)),
        "memory_mib": round(footprint.memory_info().rss / 2**20),
        "descriptors": footprint.num_fds(),
    }
    figures |= compare(rows, fake)
    wrong = [*differences(rows, fake), *await complaints(gateway, process, folder)]
    process.kill()
    wrong += logged_faults(folder / "data" / "darkroom.db", load.answered)
    print(json.dumps(figures, indent=2))  # noqa: T201
    print("\n".join(wrong) or "Bill and books are equal, to the micro-dollar.")  # noqa: T201
    return 1 if wrong or kills < KILLS else 0


async def torment(process: GatewayProcess, load: MixedLoad, started: float) -> int:
    chance = random.Random(SEED + 1)
    callers = asyncio.create_task(load.run())
    kills = 0
    while kills < KILLS and time.monotonic() - started < LONGEST_S:
        load.progress.clear()
        await load.progress.wait()
        await asyncio.sleep(chance.uniform(0, 0.8))
        process.kill()
        kills += 1
        if kills < KILLS:
            await process.start()
    callers.cancel()
    await asyncio.gather(callers, return_exceptions=True)
    return kills


async def complaints(gateway: Gateway, process: GatewayProcess, folder: Path) -> list[str]:
    """The doctor's, and the reconciliation's."""
    doctor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "--config", str(process.config), "doctor", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        cwd=folder,
    )
    said, _ = await doctor.communicate()
    checks = json.loads(said)
    found = await gateway.admin("POST", "/reconcile", {})
    drift = [f"reconciliation: {found}"] if found["drift"] or found["open_count"] else []
    return [*(f"doctor: {check['name']}: {check['said']}" for check in checks if check["status"] != "ok"), *drift]


def logged_faults(database: Path, answered: set[str]) -> list[str]:
    sql = sqlite3.connect(database)
    try:
        ids = [row[0] for row in sql.execute(IDS)]
        return usage_faults(ids, sql.execute(CALLS_AND_COST).fetchone(), sql.execute(TOTALS).fetchone(), answered)
    finally:
        sql.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
