"""Reads a `model.toml`, the optional word of a model's author beside the model."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pelton.errors import LoadFailed
from pelton.repository.golden_toml import IN_GOLDEN, read_golden
from pelton.repository.keeping_toml import KEEPING, read_keeping
from pelton.repository.own_files import inside, read_text
from pelton.repository.serving_toml import BATCHING, IN_BATCHING, SERVING, over, read_serving
from pelton.repository.toml_text import read_toml
from pelton.specs import GoldenSource, TensorSpec
from pelton.tensors import DATATYPES, MAX_DIM, MAX_RANK

FILE = "model.toml"

GOLDEN = "golden"
"""The name of the tables of golden requests."""

_OWN = ("runtime", "file", "objects", "labels", "inputs", "outputs", "options", GOLDEN)
"""The keys at the top that say what the model is; those of `SERVING` and `KEEPING` say how it is
served and kept."""

_RENAMED = {"intra_op_threads": "threads"}
"""Options of before -> the keys at the top that they have become."""

Labels = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ModelToml:
    """What a `model.toml` says; every key may be missing.

    Attributes:
        runtime: name of the runtime.
        file: the model's file, in the same folder.
        inputs: declared inputs.
        outputs: declared outputs.
        labels: class names by output; the key "" holds for every output.
        options: settings for the runtime.
        serving: how the model is served, as `ModelSpec.serving`.
        keeping: how it is kept, by key; see `keeping_toml`.
        golden: requests that it must answer well before it is served.
        declared_in: `input` or `output` -> the file that declares them, for messages.
    """

    runtime: str | None = None
    file: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    labels: Labels = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    serving: Mapping[str, Any] = field(default_factory=dict)
    keeping: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[GoldenSource, ...] = ()
    declared_in: Mapping[str, str] = field(default_factory=dict, compare=False)

    def over(self, general: ModelToml) -> ModelToml:
        """Return this file's word where it has one, and else that of a more general file."""
        return ModelToml(
            runtime=self.runtime or general.runtime,
            file=self.file or general.file,
            inputs=self.inputs or general.inputs,
            outputs=self.outputs or general.outputs,
            labels=self.labels or general.labels,
            options={**general.options, **self.options},
            serving=over(self.serving, general.serving),
            keeping={**general.keeping, **self.keeping},
            golden=self.golden or general.golden,
            declared_in={**general.declared_in, **self.declared_in},
        )


def declaring(
    file: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> dict[str, str]:
    """Return `ModelToml.declared_in` for what one file declares."""
    return {kind: file for kind, specs in (("input", inputs), ("output", outputs)) if specs}


def read_model_toml(folder: Path, told: str) -> ModelToml:
    """Read the `model.toml` of a folder, if there is one.

    Args:
        folder: the folder of a model or of a version.
        told: how messages shall name the folder.

    Raises:
        LoadFailed: the file is broken, or holds what is not known or not allowed.
    """
    path = folder / FILE
    if not path.exists():
        return ModelToml()
    told = f"{told}/{FILE}"
    return _Reader(folder, told).read(read_toml(path, told))


class _Reader:
    """Checks the values of one file; `told` begins every message."""

    def __init__(self, folder: Path, told: str) -> None:
        self._folder = folder
        self._told = told

    def read(self, table: Mapping[str, Any]) -> ModelToml:
        self._check_keys(table, (*_OWN, *SERVING, BATCHING, *KEEPING), "")
        options = self._options(table)
        batching = self._typed(table, BATCHING, dict, "a table") or {}
        self._check_keys(batching, tuple(IN_BATCHING), " in [batching]")
        inputs, input_labels = self._tensors(table, "inputs")
        outputs, output_labels = self._tensors(table, "outputs")
        if input_labels:
            raise LoadFailed(f"{self._told}: inputs have no labels; give them to an output")
        general = self._labels(table)
        return ModelToml(
            runtime=self._typed(table, "runtime", str, "text in quotes"),
            file=self._typed(table, "file", str, "text in quotes"),
            inputs=inputs,
            outputs=outputs,
            labels={**({"": general} if general else {}), **output_labels},
            options=options,
            serving=read_serving(table, batching, self._told),
            keeping=read_keeping(table, self._told),
            golden=self._golden(table),
            declared_in=declaring(FILE, inputs, outputs),
        )

    def _golden(self, table: Mapping[str, Any]) -> tuple[GoldenSource, ...]:
        rows = self._rows(table, GOLDEN)
        for row in rows:
            self._check_keys(row, tuple(IN_GOLDEN), " in [[golden]]")
        return read_golden(rows, self._folder, self._told)

    def _options(self, table: Mapping[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = dict(self._typed(table, "options", dict, "a table") or {})
        for name in options:
            self._refuse_misplaced(_RENAMED.get(name, name))
        objects = self._typed(table, "objects", bool, "true or false")
        if objects is not None:
            options["objects"] = objects
        return options

    def _tensors(
        self, table: Mapping[str, Any], key: str
    ) -> tuple[tuple[TensorSpec, ...], dict[str, tuple[str, ...]]]:
        specs: dict[str, TensorSpec] = {}
        labels: dict[str, tuple[str, ...]] = {}
        for row in self._rows(table, key):
            self._check_keys(row, ("name", "datatype", "shape", "labels"), f" in [[{key}]]")
            spec = self._tensor(row, key)
            if spec.name in specs:
                raise LoadFailed(f"{self._told}: {key} has {spec.name!r:.80} twice")
            specs[spec.name] = spec
            names = self._labels(row)
            if names:
                labels[spec.name] = names
        return tuple(specs.values()), labels

    def _tensor(self, row: Mapping[str, Any], key: str) -> TensorSpec:
        for wanted in ("name", "datatype", "shape"):
            if wanted not in row:
                raise LoadFailed(f"{self._told}: every one of [[{key}]] needs a `{wanted}`")
        name = self._typed(row, "name", str, "text in quotes")
        datatype = self._typed(row, "datatype", str, "text in quotes")
        shape = self._typed(row, "shape", list, "a list of whole numbers")
        if not name or len(name) > 256:
            raise LoadFailed(f"{self._told}: a name in [[{key}]] must have 1 to 256 characters")
        if datatype not in DATATYPES:
            raise LoadFailed(
                f"{self._told}: {datatype!r:.40} of {name!r:.80} is no datatype; "
                f"known are {', '.join(DATATYPES)}"
            )
        if len(shape) > MAX_RANK or not all(
            type(size) is int and -1 <= size <= MAX_DIM for size in shape
        ):
            raise LoadFailed(
                f"{self._told}: the shape of {name!r:.80} must be a list of at most {MAX_RANK} "
                "whole numbers, with -1 for any size"
            )
        return TensorSpec(name, datatype, tuple(shape))

    def _labels(self, table: Mapping[str, Any]) -> tuple[str, ...]:
        value = table.get("labels", [])
        if isinstance(value, str):
            value = self._labels_file(value)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise LoadFailed(
                f"{self._told}: `labels` must be a list of texts, or the name of a file with one "
                "label per line"
            )
        return tuple(value)

    def _labels_file(self, name: str) -> list[Any]:
        text = read_text(inside(self._folder, name, self._told), f"{self._told}: {name!r:.120}")
        if not name.endswith(".json"):
            return text.splitlines()
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list):
            raise LoadFailed(f"{self._told}: {name!r:.120} holds no JSON list of texts")
        return names

    def _rows(self, table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        rows: list[Any] = self._typed(table, key, list, f"written as [[{key}]]") or []
        if not all(isinstance(row, dict) for row in rows):
            raise LoadFailed(f"{self._told}: {key} must be written as [[{key}]]")
        return rows

    def _typed(self, table: Mapping[str, Any], key: str, wanted: type, told: str) -> Any:
        value = table.get(key)
        if value is not None and type(value) is not wanted:
            raise LoadFailed(f"{self._told}: `{key}` must be {told}")
        return value

    def _check_keys(self, table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
        for key in table:
            if key not in known:
                self._refuse_misplaced(key)
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
                raise LoadFailed(f"{self._told}: unknown key `{key:.60}`{where}; {hint}")

    def _refuse_misplaced(self, key: str) -> None:
        """Refuse a known key that stands at another place than its own."""
        if key == "objects" or key in SERVING or key in KEEPING:
            raise LoadFailed(f"{self._told}: write `{key}` at the top, above every [table]")
        if key in IN_BATCHING:
            raise LoadFailed(f"{self._told}: write `{key}` into the table [batching]")
