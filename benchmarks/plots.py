"""Draws the plots, as SVG files beside the table. One look for all: few lines, both series, units on the axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.rows import Plot, Series

_OURS = "#0b6e99"
_BARE = "#9a9a9a"
_INK = "#333333"
_SIZE_INCHES = (7.2, 4.2)
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "darkroom",
}


def draw(plots: Sequence[Plot], folder: Path) -> None:
    """Write `NAME.svg` for each."""
    with mpl.rc_context(_STYLE):
        for plot in plots:
            figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
            _fill(figure.subplots(), plot)
            figure.savefig(folder / f"{plot.name}.svg", metadata={"Date": None})


def _fill(axes: Axes, plot: Plot) -> None:
    axes.set_title(plot.title, loc="left", fontweight="bold", pad=12)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    if plot.x_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    if plot.x_ticks:
        axes.set_xticks(list(plot.x_ticks))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_plain))
    for series in plot.series:
        (_bars if plot.bars else _line)(axes, series)
    axes.set_ylim(bottom=0)
    if len(plot.series) > 1:
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9.5)


def _line(axes: Axes, series: Series) -> None:
    xs, ys = zip(*series.points, strict=True)
    axes.plot(xs, ys, label=series.name, color=_colour(series), marker="o", markersize=4.5, linewidth=2)


def _bars(axes: Axes, series: Series) -> None:
    """Adjoining bars: the last point is only the right edge of the one before."""
    edges, heights = zip(*series.points, strict=True)
    axes.stairs(heights[:-1], edges, fill=True, alpha=0.35, color=_colour(series))
    axes.stairs(heights[:-1], edges, label=series.name, color=_colour(series), linewidth=1.6)


def _colour(series: Series) -> str:
    return _OURS if series.ours else _BARE


def _plain(value: float, _position: int) -> str:
    return f"{value:,.10g}"
