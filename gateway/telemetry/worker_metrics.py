"""Metrics of several processes behind one port: whichever is asked shows those of all, each with its `worker` label.

Each keeps what it counts in a file that the others read, a few seconds old at most. The file of a process that died is
removed by whoever watches over them, so that its gauges go with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

FILE = "metrics.prom"
_PERIOD_S = 2.0
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?( .*)$")

Render = Callable[[], bytes]


class WorkerMetrics:
    """`places`: the folder of each process by its number, ours included."""

    def __init__(self, render: Render, *, worker: int, places: Callable[[], Iterable[tuple[int, Path]]]) -> None:
        self._render = render
        self._worker = worker
        self._places = places

    def __call__(self) -> bytes:
        """In Prometheus' text format."""
        found = {number: _read(place / FILE) for number, place in self._places() if number != self._worker}
        found[self._worker] = self._render().decode()
        return merged(found).encode()

    async def run(self, place: Path) -> None:
        """Keep our own where the others look for them, for ever."""
        while True:
            with contextlib.suppress(OSError):
                aside = place / f".{FILE}"
                aside.write_bytes(self._render())
                os.replace(aside, place / FILE)  # noqa: PTH105  (as one step)
            await asyncio.sleep(_PERIOD_S)


def merged(texts: dict[int, str]) -> str:
    """Several renderings as one: a family's samples stand together under its one head."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for worker, text in sorted(texts.items()):
        family = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                heads.setdefault(family, [])
            if line.startswith("#"):
                if line not in heads[family]:
                    heads[family].append(line)
            else:
                samples.setdefault(family, []).append(_labelled(line, worker))
    lines = [line for family, head in heads.items() for line in (*head, *samples.get(family, ()))]
    return "\n".join(lines) + "\n"


def _labelled(line: str, worker: int) -> str:
    found = _SAMPLE.match(line)
    if found is None:
        return line
    name, labels, rest = found.groups()
    more = f",{labels}" if labels else ""
    return f'{name}{{worker="{worker}"{more}}}{rest}'


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:  # not there yet, or dead
        return ""
