"""Measure what the gateway costs and write the table and the plots: `make bench`, ten to twelve minutes.

`python -m benchmarks [NAME ...] [--quick] [--runs N] [--list]`. Names are those of the modules that measure; without
any, all are. `--runs 3` does everything three times, and the table shows the figures of the three runs. `results/` gets
what a whole run finds; a part of it, or a short run, goes to `results/part/`, which is not committed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    connections,
    console,
    entries,
    hits,
    joiners,
    open_purchases,
    purchases,
    replicas,
    report,
    reports,
    start,
)
from benchmarks.load import HINT, has_wrk
from benchmarks.machine import raise_open_files
from benchmarks.rows import Bench, Found, Plot

_NOTES = (
    "Ratios are to something bare, measured in alternating runs in the same minutes; figures are medians.",
    "Amounts are this machine's, and other work moves them. uvicorn, one process, with everything on, as shipped:",
    "authentication, two rolling limits, usage rows journalled, metrics, logs.",
)
_GROUPS: dict[str, Callable[[Bench], Found]] = {
    module.__name__.rpartition(".")[2]: module.measure
    for module in (start, hits, connections, purchases, open_purchases, joiners, entries, reports, console, replicas)
}


def main() -> None:
    asked = _arguments()
    if asked.list:
        print("\n".join(_GROUPS))
        return
    names = asked.names or list(_GROUPS)
    raise_open_files()
    draw, started = _drawing(), time.monotonic()
    runs = [_run(names, quick=asked.quick) for _ in range(asked.runs)]
    tables = [[row for found in run for row in found.rows] for run in runs]
    plots = [plot for found in runs[-1] for plot in found.plots]
    whole = set(names) == set(_GROUPS) and not asked.quick
    notes = [*_NOTES, _load_note(), *([] if whole else [_part_note(names, quick=asked.quick)])]
    folder = report.RESULTS if whole else report.RESULTS / "part"
    rows = tables[0] if asked.runs == 1 else report.of_runs(tables)
    text = report.write(folder, rows, plots, notes, runs=asked.runs)
    draw(plots, folder)
    print(f"\n{text}\n{time.monotonic() - started:.0f} s; written to {os.path.relpath(folder)}/latest.md")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures what the gateway costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; see --list")
    parser.add_argument("--quick", action="store_true", help="smaller counts, in about four minutes")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="do everything N times")
    parser.add_argument("--list", action="store_true", help="show the names")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(_GROUPS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is: {', '.join(_GROUPS)}")
    if asked.runs < 1:
        parser.error("--runs is 1 or more")
    return asked


def _run(names: Sequence[str], *, quick: bool) -> list[Found]:
    found = []
    for name in names:
        print(f"{name} ...", flush=True)
        with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
            found.append(_GROUPS[name](Bench(Path(folder), quick=quick)))
    return found


def _load_note() -> str:
    return f"Load: {'wrk' if has_wrk() else HINT}, and clients of our own."


def _part_note(names: Sequence[str], *, quick: bool) -> str:
    return f"Not the whole: {', '.join(names)}{', with smaller counts' if quick else ''}."


def _drawing() -> Callable[[Sequence[Plot], Path], None]:
    try:
        from benchmarks.plots import draw  # noqa: PLC0415  (only `make bench` installs what draws)
    except ModuleNotFoundError as missing:
        raise SystemExit(f"{missing.name} is missing: `make bench` installs it, or requirements-bench.txt.") from None
    return draw


if __name__ == "__main__":
    main()
