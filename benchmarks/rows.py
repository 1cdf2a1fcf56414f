"""What a measurement comes to: rows of the table and the plots that belong to them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Bench:
    """One run: where it may put files, and whether it is a short one (`quick`: smaller counts, same shape)."""

    folder: Path
    quick: bool = False

    def subfolder(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir(exist_ok=True)
        return made


@dataclass(frozen=True)
class Row:
    """One line of the table. `figure` is the one that counts: a ratio to the yardstick, or, with a `unit`, an amount.

    `reach` must be had, `aim` is hoped for; None: reported only. `each`: the figure of each round, or of each run.
    """

    name: str
    figure: float
    unit: str = ""
    each: Sequence[float] = ()
    reach: float | None = None
    aim: float | None = None
    more_is_better: bool = False
    ours: str = ""
    yardstick: str = ""

    @property
    def verdict(self) -> str:
        if self._meets(self.aim):
            return "aim met"
        if self._meets(self.reach):
            return "reach met"
        return "" if self.reach is None else "not met"

    def _meets(self, bound: float | None) -> bool:
        if bound is None:
            return False
        return self.figure >= bound if self.more_is_better else self.figure <= bound


@dataclass(frozen=True)
class Series:
    """One line of a plot. `ours`: the gateway's, which is drawn in front."""

    name: str
    points: Sequence[tuple[float, float]]
    ours: bool = True


@dataclass(frozen=True)
class Plot:
    """A picture in `results/`, `name`.svg. `bars`: points are (left edge, height) of adjoining bars."""

    name: str
    title: str
    x: str
    y: str
    series: Sequence[Series]
    x_log: bool = False
    x_ticks: Sequence[float] = ()
    bars: bool = False


@dataclass(frozen=True)
class Found:
    rows: Sequence[Row]
    plots: Sequence[Plot] = field(default_factory=tuple)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of runs made one after the other."""
    return [a / b for a, b in zip(above, below, strict=True)]


def compared(
    name: str,
    ours: Sequence[float],
    yardstick: Sequence[float],
    unit: str,
    *,
    reach: float | None = None,
    aim: float | None = None,
    more_is_better: bool = False,
    inverse: bool = False,
) -> Row:
    """A row whose figure is the median ratio of alternating runs; `inverse`: the yardstick's to ours."""
    each = ratios(yardstick, ours) if inverse else ratios(ours, yardstick)
    shown = [f"{statistics.median(some):,.4g} {unit}" for some in (ours, yardstick)]
    return Row(
        name,
        statistics.median(each),
        each=each,
        reach=reach,
        aim=aim,
        more_is_better=more_is_better,
        ours=shown[0],
        yardstick=shown[1],
    )
