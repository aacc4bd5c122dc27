"""Results: as raw JSON to keep, as tables to read, and as targets that are reached or not."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import environments
import machine
import picture
from picture import Picture

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS / "latest.md"


@dataclass(frozen=True)
class Table:
    """A table of text; the first column names the rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Target:
    """One figure that the project has set itself.

    Attributes:
        claim: what is compared, such as `OIP at HD / bare TCP`.
        value: what was measured; None where one side of it could not be.
        limit: what it may be at most, or must be at least.
        at_most: which of the two.
    """

    claim: str
    value: float | None
    limit: float
    at_most: bool

    @property
    def reached(self) -> bool:
        """Whether the figure was measured, and is on the right side of its limit."""
        if self.value is None:
            return False
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(frozen=True)
class Result:
    """What one scenario found.

    Attributes:
        scenario: its name.
        method: how it was measured, in sentences.
        tables: what to show.
        targets: what was to be reached.
        versions: what was compared, package by package.
        samples: every single figure.
        pictures: diagrams of them.
        absent: who could not be measured, and why.
    """

    scenario: str
    method: list[str]
    tables: list[Table]
    targets: list[Target]
    versions: dict[str, str]
    samples: dict[str, Any] = field(repr=False)
    pictures: list[Picture] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def keep(result: Result, described: dict[str, str], *, quick: bool) -> Path:
    """Write the raw result; a quick run's goes beside the environments, not into the repository."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    folder = environments.home() / "results" if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{today}-{result.scenario}.json"
    record = {
        "date": today,
        "quick": quick,
        "commit": machine.commit(),
        "machine": described,
        **asdict(result),
        "targets": [asdict(target) | {"reached": target.reached} for target in result.targets],
        "pictures": [drawn.name for drawn in result.pictures],
    }
    path.write_text(_lines(record))
    origin = {"date": today, "commit": record["commit"], "processor": described["processor"]}
    for drawn in result.pictures:
        picture.keep(drawn, origin, quick=quick)
    return path


def _lines(record: dict[str, Any]) -> str:
    """Return JSON with one line for each key, so that samples do not fill the screen."""
    body = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    return "{\n" + body + "\n}\n"


def render(record: dict[str, Any]) -> str:
    """Return one kept result as Markdown."""
    facts = {"date": record["date"], "commit": record["commit"], **record["machine"]}
    parts = [f"## {record['scenario']}"]
    parts.append("; ".join(f"{key} {value}" for key, value in facts.items()))
    parts.append("\n".join(f"- {sentence}" for sentence in record["method"]))
    for table in record["tables"]:
        parts += [f"**{table['title']}**", _grid(table["columns"], table["rows"])]
    for name, reason in record.get("absent", {}).items():
        parts.append(f"**Not measured: {name}.** {reason}")
    for name in record.get("pictures", []):
        parts.append(f"![{name}](../../docs/benchmarks/{name}.png)")
    parts += ["**Targets**", _grid(["", "measured", "target", ""], _target_rows(record["targets"]))]
    parts.append("Versions: " + ", ".join(f"{n} {v}" for n, v in record["versions"].items()))
    return "\n\n".join(parts) + "\n"


def render_page() -> None:
    """Write the page with the newest kept result of each scenario."""
    newest: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        newest[record["scenario"]] = record
    head = "# Latest results\n\nWritten by `benchmarks/run.py`; the method is in `../README.md`.\n"
    PAGE.write_text("\n".join([head, *(render(record) for record in newest.values())]))


def _target_rows(targets: Iterable[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            target["claim"],
            "not measured" if target["value"] is None else f"{target['value']:.2f}",
            f"{'at most' if target['at_most'] else 'at least'} {target['limit']:.2f}",
            "reached" if target["reached"] else "**missed**",
        ]
        for target in targets
    ]


def _grid(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
