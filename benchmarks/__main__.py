"""Measure every row and write the table: `make bench`, under three minutes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks import hits, purchases, report, start
from benchmarks.load import HINT, has_wrk
from benchmarks.servers import Gateway, provider_server

_NOTES = (
    "Ratios are medians over alternating runs; the figures beside them are this machine's. Other work moves both.",
    "Everything is on, as shipped: authentication, two rolling limits, usage rows journalled, metrics, logs.",
)


def main() -> None:
    started = time.monotonic()
    notes = [*_NOTES, f"Load: {'wrk' if has_wrk() else HINT}. Server and load on cores of their own."]
    if not has_wrk():
        print(HINT)
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-bench-") as name,
        provider_server(Path(name) / "provider") as fake,
    ):
        folder = Path(name)
        served, _ = hits.cores()
        print("Starting ...", flush=True)
        rows = start.measure(folder, fake)
        with Gateway(folder / "gateway", fake.base_url).on(served) as gateway:
            key = gateway.new_key()
            print("Hits ...", flush=True)
            found = hits.measure(folder, gateway, key)
        with Gateway(folder / "gateway", fake.base_url) as gateway:
            print("Purchases ...", flush=True)
            bought = purchases.measure(gateway, fake, key)
    text = report.write([*found, *bought, *rows], notes)
    print(f"\n{text}\n{time.monotonic() - started:.0f} s; written to {os.path.relpath(report.RESULTS)}/latest.md")


if __name__ == "__main__":
    main()
