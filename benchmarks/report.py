"""The table, written for people and for machines, with the machine and the versions named."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.rows import Plot, Row
from gateway import __version__

RESULTS = Path(__file__).parent / "results"
_SHOWN = ("uvicorn", "uvloop", "httptools", "msgspec", "fastapi", "jsonschema-rs", "sqlalchemy", "aiohttp")
_HEAD = "| | figure | of each {each} | reach | aim | | ours | yardstick |\n|---|---|---|---|---|---|---|---|"


def of_runs(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """Rows of several runs as one table: the median figure, and the figure of each run. The rest is the last run's."""
    return [_of_runs([row.figure for row in same], same[-1]) for same in zip(*runs, strict=True)]


def _of_runs(figures: Sequence[float], last: Row) -> Row:
    return replace(last, figure=statistics.median(figures), each=figures)


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


def markdown(rows: Sequence[Row], plots: Sequence[Plot], notes: Sequence[str], *, runs: int) -> str:
    lines = ["# What the gateway costs", "", "Measured by `make bench`.", *notes, ""]
    lines += table(rows, each="run" if runs > 1 else "round")
    lines += [part for plot in plots for part in ("", f"![{plot.title}]({plot.name}.svg)")] + [""]
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    return "\n".join([*lines, facts, ""])


def table(rows: Sequence[Row], *, each: str = "round") -> list[str]:
    return [_HEAD.format(each=each), *map(_line, rows)]


def write(folder: Path, rows: Sequence[Row], plots: Sequence[Plot], notes: Sequence[str], *, runs: int) -> str:
    """Write `latest.md` and `latest.json` into the folder; returns the former."""
    text = markdown(rows, plots, notes, runs=runs)
    keep(folder, "latest", text, {"machine": machine(), "notes": list(notes), "rows": as_json(rows)})
    return text


def keep(folder: Path, name: str, text: str, found: Mapping[str, object]) -> None:
    """The same twice: for people, and for machines."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(found, indent=2), encoding="utf-8")


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [asdict(row) | {"verdict": row.verdict} for row in rows]


def _line(row: Row) -> str:
    bound = "≥" if row.more_is_better else "≤"
    reach, aim = ("" if some is None else f"{bound} {some:g} {row.unit}".strip() for some in (row.reach, row.aim))
    each = " ".join(map(_number, row.each))
    cells = (row.name, f"**{f'{_number(row.figure)} {row.unit}'.strip()}**", each, reach, aim)
    return "| " + " | ".join((*cells, row.verdict, row.ours, row.yardstick)) + " |"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
