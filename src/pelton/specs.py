"""What a model is: where it lies, how it is run, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output of a model.

    Attributes:
        name: the tensor's name.
        datatype: Open Inference Protocol name, such as `FP32`.
        shape: dimensions; -1 stands for any size.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One version of one model on disk, before it is loaded.

    Attributes:
        name: the model's name, as requests give it.
        version: a positive integer; the largest answers for the name.
        path: the model's file, or the folder that holds `model.py`.
        runtime: name of the runtime that loads it.
        inputs: declared inputs; empty where the file itself tells them.
        outputs: declared outputs; likewise.
        labels: class names by output name; the key "" holds for every output.
        options: settings for the runtime, from `model.toml`.
    """

    name: str
    version: int
    path: Path
    runtime: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a loaded model says of itself.

    Attributes:
        name: the model's name.
        version: its version, as text, as the protocol wants it.
        platform: framework and format, such as `onnxruntime_onnx`.
        inputs: what it takes; empty for an object model that declares nothing.
        outputs: what it gives; likewise.
        takes_objects: whether inputs may be any plain Python value, not only arrays.
        labels: class names by output name; the key "" holds for every output.
        device: where it runs, such as `cpu` or `cuda:0`.
        model_type: class or format name for people, such as `ONNX`.
        parameters: number of trained parameters, or None where it cannot be told.
        trainable_parameters: how many of them training would change, or None.
        size_bytes: size of the model on disk.
    """

    name: str
    version: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    takes_objects: bool = False
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    device: str = "cpu"
    model_type: str = ""
    parameters: int | None = None
    trainable_parameters: int | None = None
    size_bytes: int = 0

    def labels_of(self, output: str) -> tuple[str, ...]:
        """Return the class names of one output; empty where there are none."""
        return self.labels.get(output) or self.labels.get("") or ()
