"""The table: rows with ratios first, written for people and for machines, with the machine and versions named."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from gateway import __version__

RESULTS = Path(__file__).parent / "results"
_SHOWN = ("uvicorn", "uvloop", "httptools", "msgspec", "fastapi", "jsonschema-rs", "sqlalchemy", "aiohttp")


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` is the median over rounds of ours to the yardstick; None where there is none."""

    name: str
    ours: str
    yardstick: str = ""
    ratio: float | None = None
    rounds: Sequence[float] = ()
    reach: str = ""


def median_ratio(ours: Sequence[float], yardstick: Sequence[float]) -> float:
    """The median of the ratios of runs made one after the other."""
    return statistics.median(a / b for a, b in zip(ours, yardstick, strict=True))


def machine() -> dict[str, str]:
    return {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="minutes"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "load average at the end": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "darkroom": __version__,
        **{name: version(name) for name in _SHOWN},
    }


def markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    lines = ["# What the gateway costs", ""]
    lines += [f"Measured by `make bench`. {note}" if not i else note for i, note in enumerate(notes)]
    lines += ["", "| | ratio | of each round | reach | ours | yardstick |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"**{row.ratio:.2f}**"
        rounds = " ".join(f"{value:.2f}" for value in row.rounds)
        lines.append(f"| {row.name} | {ratio} | {rounds} | {row.reach} | {row.ours} | {row.yardstick} |")
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    return "\n".join([*lines, "", facts, ""])


def write(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Write `results/latest.md` and `.json`; returns the former."""
    text = markdown(rows, notes)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.md").write_text(text, encoding="utf-8")
    found = {"machine": machine(), "notes": list(notes), "rows": [asdict(row) for row in rows]}
    (RESULTS / "latest.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    return text


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
