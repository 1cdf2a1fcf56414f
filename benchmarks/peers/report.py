"""The tables of `make bench-peers`, for people and for machines, with every version named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.peers import litellm, nginx, portkey
from benchmarks.report import RESULTS, Row, machine

_COLUMNS = ("Darkroom", "nginx", "LiteLLM", "Portkey")


@dataclass(frozen=True)
class Beside:
    """One line of the second table: what was seen of each gateway, by its name."""

    name: str
    seen: dict[str, str]


def versions() -> dict[str, str]:
    return {"nginx": nginx.version(), "LiteLLM": litellm.version(), "Portkey": portkey.version()}


def write(rows: Sequence[Row], beside: Sequence[Beside], notes: str) -> str:
    """Write `results/peers.md` and `.json`; returns the former."""
    facts = versions() | machine()
    lines = ["# Beside other gateways", "", notes]
    lines += ["", *_ratios(rows), "", *_seen(beside)]
    text = "\n".join([*lines, "", ", ".join(f"{name} {value}" for name, value in facts.items()), ""])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.md").write_text(text, encoding="utf-8")
    found = {"facts": facts, "notes": notes, "rows": [*map(asdict, rows), *map(asdict, beside)]}
    (RESULTS / "peers.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    return text


def _ratios(rows: Sequence[Row]) -> list[str]:
    lines = ["| | ratio | of each round | reach | Darkroom | peer |", "|---|---|---|---|---|---|"]
    for row in rows:
        rounds = " ".join(f"{value:.3g}" for value in row.rounds)
        lines.append(
            f"| {row.name} | **{row.ratio or 0:.3g}** | {rounds} | {row.reach} | {row.ours} | {row.yardstick} |"
        )
    return lines


def _seen(beside: Sequence[Beside]) -> list[str]:
    lines = [f"| | {' | '.join(_COLUMNS)} |", "|---|---|---|---|---|"]
    lines += [f"| {row.name} | {' | '.join(row.seen.get(name, '') for name in _COLUMNS)} |" for row in beside]
    return lines
