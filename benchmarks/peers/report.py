"""The tables of `make bench-peers`, for people and for machines, with every version named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.peers import litellm, nginx, portkey
from benchmarks.report import RESULTS, as_json, keep, machine, table
from benchmarks.rows import Row

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
    shown = ", ".join(f"{name} {value}" for name, value in facts.items())
    text = "\n".join(["# Beside other gateways", "", notes, "", *table(rows), "", *_seen(beside), "", shown, ""])
    found = {"facts": facts, "notes": notes, "rows": [*as_json(rows), *map(asdict, beside)]}
    keep(RESULTS, "peers", text, found)
    return text


def _seen(beside: Sequence[Beside]) -> list[str]:
    lines = [f"| | {' | '.join(_COLUMNS)} |", "|---|---|---|---|---|"]
    lines += [f"| {row.name} | {' | '.join(row.seen.get(name, '') for name in _COLUMNS)} |" for row in beside]
    return lines
