"""Bars over time: what was spent and, on top of it, what was saved. Geometry only; the template draws it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gateway.console.format import money

WIDTH = 1000.0
HEIGHT = 240.0
_GAP = 0.28
_STEPS = [Decimal(step) for step in ("1", "1.2", "1.6", "2", "2.4", "3", "4", "5", "6", "8", "10")]


@dataclass(frozen=True, slots=True)
class Bar:
    """In the units of the drawing, whose top is 0. `label` says the bucket, `spent` and `saved` what it stands for."""

    x: float
    width: float
    spent_y: float
    spent_height: float
    saved_y: float
    saved_height: float
    label: str
    spent: str
    saved: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`ticks`: height in the drawing and what it stands for. `marks`: labels under the bars, first to last."""

    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    marks: Sequence[str]
    empty: bool


def spend_chart(starts: Sequence[dt.datetime], rows: Sequence[Mapping[str, str]], bucket: str) -> Chart:
    """`rows`: those of the usage report, by bucket."""
    by_start = {row["bucket"]: row for row in rows}
    nothing = {"cost_usd": "0", "saved_usd": "0"}
    found = [by_start.get(_key(start), nothing) for start in starts]
    spent = [max(Decimal(0), Decimal(row["cost_usd"])) for row in found]
    saved = [max(Decimal(0), Decimal(row["saved_usd"])) for row in found]
    top = _round_up(max((a + b for a, b in zip(spent, saved, strict=True)), default=Decimal(0)))
    step = WIDTH / max(1, len(starts))
    bars = []
    for place, (start, row, cost, gain) in enumerate(zip(starts, found, spent, saved, strict=True)):
        high, higher = HEIGHT * float(cost / top), HEIGHT * float((cost + gain) / top)
        bars.append(
            Bar(
                x=round(place * step + step * _GAP / 2, 2),
                width=round(step * (1 - _GAP), 2),
                spent_y=round(HEIGHT - high, 2),
                spent_height=round(high, 2),
                saved_y=round(HEIGHT - higher, 2),
                saved_height=round(higher - high, 2),
                label=_label(start, bucket),
                spent=row["cost_usd"],
                saved=row["saved_usd"],
            )
        )
    ticks = [(HEIGHT * (1 - part / 4), money(str((top * part / 4).normalize()))) for part in (4, 2, 0)]
    return Chart(bars, ticks, _marks(starts, bucket), empty=not any(spent) and not any(saved))


def _marks(starts: Sequence[dt.datetime], bucket: str) -> list[str]:
    if len(starts) < 3:
        return [_label(start, bucket) for start in starts]
    return [_label(starts[place], bucket) for place in (0, len(starts) // 2, -1)]


def _label(start: dt.datetime, bucket: str) -> str:
    if bucket == "month":
        return f"{start:%b %Y}"
    return f"{start.day} {start:%b}" + (f", {start:%H:%M}" if bucket == "hour" else "")


def _key(start: dt.datetime) -> str:
    return start.isoformat().replace("+00:00", "Z")


def _round_up(value: Decimal) -> Decimal:
    """To the next amount that divides well into four."""
    if value <= 0:
        return Decimal(1)
    scale = Decimal(10) ** math.floor(math.log10(value))
    return next(step * scale for step in _STEPS if step * scale >= value)
