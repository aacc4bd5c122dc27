"""What a picture shows; `draw.py` paints it, in an environment of its own with matplotlib."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

import environments
import machine
from environments import HERE

PAGES = machine.ROOT / "docs" / "benchmarks"


@dataclass(frozen=True)
class Line:
    """One series of points.

    Attributes:
        name: as the legend tells it.
        x: where the points stand.
        y: how high.
        reference: whether it is no measurement of Pelton but what it is held against.
    """

    name: str
    x: list[float]
    y: list[float]
    reference: bool = False


@dataclass(frozen=True)
class Picture:
    """A diagram of lines, or of bars where there are `bars`.

    Attributes:
        name: of its file.
        title: what it shows.
        subtitle: under which conditions.
        x_label: what the x axis is, with its unit.
        y_label: likewise.
        lines: the series.
        bars: name -> value, instead of lines.
        highlight: names of the bars that stand out.
        x_log: whether x is logarithmic.
        y_log: whether y is logarithmic.
        x_ticks: where x has marks, and what they say; empty for round numbers.
        levels: horizontal limits: what they say -> where they are.
    """

    name: str
    title: str
    subtitle: str
    x_label: str
    y_label: str = ""
    lines: list[Line] = field(default_factory=list)
    bars: dict[str, float] = field(default_factory=dict)
    highlight: list[str] = field(default_factory=list)
    x_log: bool = False
    y_log: bool = False
    x_ticks: dict[str, float] = field(default_factory=dict)
    levels: dict[str, float] = field(default_factory=dict)


def keep(picture: Picture, origin: dict[str, str], *, quick: bool) -> Path:
    """Write a picture's numbers as JSON and paint it beside them.

    Args:
        picture: what to show.
        origin: date, commit and machine, for the picture's foot.
        quick: whether the run was a short one, whose pictures stay out of the repository.
    """
    folder = environments.home() / "results" if quick else PAGES
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / f"{picture.name}.json"
    numbers.write_text(json.dumps({**origin, **asdict(picture)}, indent=1) + "\n")
    painted = numbers.with_suffix(".png")
    python = environments.python_of("pictures")
    subprocess.run([python, HERE / "draw.py", numbers, painted], check=True)
    return painted
