"""The options of `pelton routes set`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PolicyFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE", show_default=False, help="The whole policy in JSON; - is the input."
    ),
]

Latest = Annotated[bool, typer.Option("--latest", help="The latest version answers.")]

Pin = Annotated[
    str | None, typer.Option(metavar="VERSION", help="This version answers, and no other.")
]

Split = Annotated[
    str | None,
    typer.Option(
        metavar="V=WEIGHT,...", help="Several answer, by their weights; the main one first."
    ),
]

Enrolled = Annotated[
    float | None, typer.Option(help="Share of units that take part in the split, from 0 to 1.")
]

Salt = Annotated[str | None, typer.Option(help="The split's draw; a new one mixes everybody anew.")]

Sticky = Annotated[str | None, typer.Option(metavar="FIELD", help="What tells the split who asks.")]

Shadow = Annotated[
    str | None,
    typer.Option(metavar="V=SHARE", help="This version gets copies; `none` ends that."),
]

Model = Annotated[
    str | None, typer.Option(help="The model behind it, if it is not that of this name.")
]
