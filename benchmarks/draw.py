"""Paints one picture.

    python draw.py NUMBERS.json PICTURE.png

The colours are those of Okabe and Ito, which people with any kind of colour vision tell apart; each
line has a mark of its own besides. The ground is opaque, so that the picture can be read on dark
pages too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKS = "osD^vPX*"
MOST_MARKS = 15
INK, SOFT, GROUND, EDGE = "#1f2328", "#59636e", "#ffffff", "#d1d9e0"
WIDTH_IN, HEIGHT_IN, DPI = 8.0, 4.8, 160
LEFT = 0.035


def paint(numbers: dict[str, Any], path: Path) -> None:
    plt.rcParams.update({"font.size": 10, "text.color": INK, "axes.labelcolor": INK})
    height_in = 1.7 + 0.33 * len(numbers["bars"]) if numbers["bars"] else HEIGHT_IN
    figure, axes = plt.subplots(figsize=(WIDTH_IN, height_in), facecolor=GROUND, linewidth=2)
    if numbers["bars"]:
        _bars(axes, numbers)
    else:
        _lines(axes, numbers)
    _frame(axes, numbers)
    _words(figure, numbers, height_in)
    figure.savefig(path, dpi=DPI, facecolor=GROUND, edgecolor=EDGE)


def _lines(axes: Axes, numbers: dict[str, Any]) -> None:
    for index, line in enumerate(numbers["lines"]):
        colour = SOFT if line["reference"] else COLOURS[index % len(COLOURS)]
        axes.plot(
            line["x"],
            line["y"],
            label=line["name"],
            color=colour,
            marker="" if len(line["x"]) > MOST_MARKS else MARKS[index % len(MARKS)],
            markersize=5,
            linewidth=1.8,
            linestyle="--" if line["reference"] else "-",
        )
    for name, level in numbers["levels"].items():
        axes.axhline(level, color=SOFT, linewidth=1.1, linestyle=":")
        axes.annotate(
            name,
            (1.01, level),
            xycoords=("axes fraction", "data"),
            va="center",
            color=SOFT,
            fontsize=8.5,
            annotation_clip=False,
        )
    if numbers["y_log"]:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    if numbers["x_log"]:
        axes.set_xscale("log")
    if numbers["x_ticks"]:
        axes.set_xticks(list(numbers["x_ticks"].values()), list(numbers["x_ticks"]))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, borderaxespad=0
    )


def _bars(axes: Axes, numbers: dict[str, Any]) -> None:
    names = sorted(numbers["bars"], key=lambda name: float(numbers["bars"][name]))
    values = [numbers["bars"][name] for name in names]
    colours = [COLOURS[0] if name in numbers["highlight"] else "#9aa4ae" for name in names]
    drawn = axes.barh(names, values, color=colours, height=0.68)
    axes.bar_label(drawn, [_plain(value, 0) for value in values], padding=4, fontsize=9)
    axes.set_xlim(right=max(values) * 1.14)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _: int) -> str:
    """Return a number as people write it."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def _frame(axes: Axes, numbers: dict[str, Any]) -> None:
    axes.set_xlabel(numbers["x_label"])
    axes.set_ylabel(numbers["y_label"])
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x" if numbers["bars"] else "both", color="#e8ecf0", linewidth=0.8)
    axes.tick_params(colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(EDGE)


def _words(figure: Figure, numbers: dict[str, Any], height_in: float) -> None:
    """Write title, subtitle and foot at fixed distances from the edges, and fit the rest."""

    def up(inches: float) -> float:
        return inches / height_in

    figure.text(LEFT, 1 - up(0.33), numbers["title"], fontsize=13, fontweight="bold")
    figure.text(LEFT, 1 - up(0.56), numbers["subtitle"], fontsize=9, color=SOFT)
    foot = f"{numbers['date']}, commit {numbers['commit']}, {numbers['processor']}"
    figure.text(LEFT, up(0.13), foot, fontsize=7.5, color=SOFT)
    figure.tight_layout(rect=(0.015, up(0.28), 0.985, 1 - up(0.62)))


if __name__ == "__main__":
    paint(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
