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
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil

from gateway.demo.provider import FakeProvider, running
from tests.e2e.test_crashes import every_generation
from tests.soak.load import MixedLoad
from tests.support.gateway import Gateway, GatewayProcess
from tests.support.http_client import open_client

KILLS = int(os.environ.get("SOAK_KILLS", "100"))
LONGEST_S = float(os.environ.get("SOAK_S", "900"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randint(1, 10**9)
_PROVIDER_KEYS = ["provider-secret", "second-secret", "third-secret"]
_QUIET_S = 300


async def main() -> int:
    fake = FakeProvider(keys=_PROVIDER_KEYS, delay_s=0.1)
    provider = {
        "timeout_s": 5,
        "books_lag_s": 1,
        "api_keys": [{"value": key, "max_concurrency": 1000} for key in _PROVIDER_KEYS],
    }
    with tempfile.TemporaryDirectory(prefix="darkroom-soak-") as name:
        folder = Path(name)
        async with running(fake) as url, open_client(connect_timeout_s=30) as http:
            process = GatewayProcess(folder / "data", url, folder / "log", provider=provider)
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
    wrong += usage_faults(folder / "data" / "darkroom.db", load.answered)
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


async def quiet(gateway: Gateway) -> list[dict[str, Any]]:
    """Every generation, once none is under way and the books have settled what was unknown."""
    until = time.monotonic() + _QUIET_S
    while True:
        await gateway.admin("POST", "/reconcile", {"adjust": True})
        rows = await every_generation(gateway)
        if not any(row["status"] == "unknown" for row in rows) or time.monotonic() > until:
            return rows
        await asyncio.sleep(1)


def cost_of(row: dict[str, Any]) -> Decimal:
    return Decimal(row["cost_usd"] or 0) + Decimal(row["adjusted_usd"])


def compare(rows: list[dict[str, Any]], fake: FakeProvider) -> dict[str, Any]:
    bill = sum((Decimal(row["cost_usd"]) for row in fake.bill), Decimal(0))
    books = sum(map(cost_of, rows), Decimal(0))
    return {"charged_calls": len(fake.bill), "bill_usd": str(bill), "books_usd": str(books), "apart": str(bill - books)}


def differences(rows: list[dict[str, Any]], fake: FakeProvider) -> list[str]:
    """By generation: what was charged beside what is booked."""
    billed: Counter[str] = Counter()
    for row in fake.bill:
        billed[row["client_request_id"]] += int(Decimal(row["cost_usd"]) * 10**6)
    booked = {row["id"]: int(cost_of(row) * 10**6) for row in rows}
    wrong = [
        f"{each}: billed {billed[each]}, booked {booked.get(each)} micro-dollars"
        for each in billed.keys() | booked.keys()
        if billed[each] != booked.get(each)
    ]
    twice = [each for each, count in Counter(row["client_request_id"] for row in fake.bill).items() if count > 1]
    open_ones = [f"{row['id']} is {row['status']}" for row in rows if row["status"] not in {"succeeded", "failed"}]
    return [*wrong, *(f"{each} was bought twice" for each in twice), *open_ones]


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


def usage_faults(database: Path, answered: set[str]) -> list[str]:
    """No answered call is missing from the usage log, none is there twice; its totals agree with it."""
    sql = sqlite3.connect(database)
    try:
        ids = Counter(row[0] for row in sql.execute("SELECT id FROM usage_log"))
        [(calls, cost)] = sql.execute(
            "SELECT SUM(outcome NOT IN ('settlement', 'adjustment')), SUM(cost_micro_usd) FROM usage_log"
        )
        totals = sql.execute("SELECT SUM(requests), SUM(cost_micro_usd) FROM usage_hourly").fetchone()
    finally:
        sql.close()
    wrong = [f"{each} was answered and is not in the usage log" for each in answered - ids.keys()]
    wrong += [f"{each} is {count} times in the usage log" for each, count in ids.items() if count > 1]
    return wrong if totals == (calls, cost) else [*wrong, f"totals {totals} are not {(calls, cost)}"]


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
