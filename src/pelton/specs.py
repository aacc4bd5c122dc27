"""What a model is: where it lies, how it is run, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pelton.tensors import Array


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
class Batching:
    """How requests to one model may share a run. Rows are counted along the first axis.

    Attributes:
        max_batch_rows: most rows of one run; 1 turns batching off, 0 leaves it to the model:
            `AUTO_BATCH_ROWS` where its file names a batch axis, else 1.
        max_delay_ms: how long a run may wait, beside a free instance, for its batch to fill;
            0 never waits on purpose.
        preferred_batch_rows: sizes, ascending, at which a batch does not wait any longer.
        target_p99_ms: tunes the bound of a batch while serving, so that 99 of 100 requests are
            answered within this time; 0 does not.
        pad: whether requests whose arrays differ in length behind the first axis may share a
            batch, filled up with zeros.
    """

    max_batch_rows: int = 0
    max_delay_ms: float = 0.0
    preferred_batch_rows: tuple[int, ...] = ()
    target_p99_ms: float = 0.0
    pad: bool = False


AUTO_BATCH_ROWS = 32
"""The bound where a model's file names a batch axis and nobody says another."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How one model is served: the server's settings, with the model's own word over them.

    Attributes:
        isolation: `process` runs the model in worker processes, `inline` in threads of the
            server; `auto` leaves it to the runtime.
        instances: how many runs may be under way at once; 0 chooses.
        threads: threads within one run; 0 chooses.
        optimize_for: what 0 chooses for: `throughput` or `latency`.
        deterministic: one run at a time, in order of arrival, alone, with fixed threads and
            seeds; each answer carries a digest of its outputs.
        max_queue_rows: rows that may wait; more are refused at once.
        max_queue_bytes: bytes of inputs that may wait; likewise.
        request_timeout_s: the longest that any request may take, from its arrival.
        hang_grace_s: how long after its deadline a run may still go on before its worker
            process counts as hung; at least three times the longest run that was seen.
        worker_max_bytes: memory of its own that a worker process may take before another takes its
            place; 0 for as much as it likes.
        cache: whether answers are kept, and given again to the same question.
        cache_ttl_s: how long an answer is kept.
        cache_max_bytes: memory for the answers of one version.
        cache_objects: whether that holds for an object model too, whose code may answer the same
            question in another way; in deterministic mode it does anyway.
        batching: how requests share runs.
    """

    isolation: str = "auto"
    instances: int = 0
    threads: int = 0
    optimize_for: str = "throughput"
    deterministic: bool = False
    max_queue_rows: int = 4096
    max_queue_bytes: int = 512 * 1024 * 1024
    request_timeout_s: float = 60.0
    hang_grace_s: float = 1.0
    worker_max_bytes: int = 0
    cache: bool = False
    cache_ttl_s: float = 60.0
    cache_max_bytes: int = 64 * 1024 * 1024
    cache_objects: bool = False
    batching: Batching = Batching()


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions that a model has are loaded.

    Attributes:
        latest: how many of the largest; None for all of them.
        only: the versions that come into question, ascending; empty for any.
    """

    latest: int | None = 1
    only: tuple[int, ...] = ()


ALL_VERSIONS = VersionPolicy(latest=None)
"""Every version that is there."""


@dataclass(frozen=True, slots=True)
class GoldenSource:
    """A golden request as a model's author wrote it, before its arrays are read.

    Attributes:
        name: what messages call it.
        inputs: a file of arrays, or nested lists by input.
        expected: likewise by output; None where no values are expected.
        bounds: the last four fields of `Golden` as far as they are said, by name.
    """

    name: str
    inputs: Path | Mapping[str, Any]
    expected: Path | Mapping[str, Any] | None = None
    bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """A request whose answer a new version must give as it should before it is served.

    Attributes:
        name: what messages call it.
        inputs: array by input, as the model takes it.
        expected: array by output, for all or some of them; None where no values are expected.
        atol: absolute part of the tolerance of floating-point values.
        rtol: part of it relative to the expected value.
        agreement: least share of rows, 0 to 1, whose largest value stands where that of the
            version in service does; 0 does not ask.
        latency_factor: how many times as long as the version in service it may take; 0 does not
            ask.
    """

    name: str
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array] | None = None
    atol: float = 1e-5
    rtol: float = 1e-3
    agreement: float = 0.0
    latency_factor: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One version of one model on disk, before it is loaded.

    The first fields say what it is and how it is run; those from `policy` on say how it is kept
    and exchanged for another, which its runtime need not know.

    Attributes:
        name: the model's name, as requests give it.
        version: a positive integer; the largest answers for the name.
        path: the model's file, or the folder that holds `model.py`.
        runtime: name of the runtime that loads it.
        inputs: declared inputs; empty where the file itself tells them.
        outputs: declared outputs; likewise.
        labels: class names by output name; the key "" holds for every output.
        options: settings for the runtime, from `model.toml`.
        serving: the fields of `Serving` that `model.toml` sets, by name; those of `batching` are
            a table of their own under that name.
        policy: which versions of the model are loaded; the same for all of them.
        version_labels: name such as `stable` -> the version that it stands for; likewise.
        pinned: whether it stays loaded when memory runs short.
        digest: the digest that its files must have, as `sha256:HEX`; empty where none is said.
        golden: requests that it must answer well before it is served.
        declared_in: `input` or `output` -> the file that declares them, for messages.
    """

    name: str
    version: int
    path: Path
    runtime: str
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    serving: Mapping[str, Any] = field(default_factory=dict)
    policy: VersionPolicy = VersionPolicy()
    version_labels: Mapping[str, int] = field(default_factory=dict)
    pinned: bool = False
    digest: str = ""
    golden: tuple[GoldenSource, ...] = ()
    declared_in: Mapping[str, str] = field(default_factory=dict, compare=False)


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
        batch_axis: whether the first axis of every input and output counts independent rows, as
            the model's file itself says.
        max_batch_rows: the most rows of one run, where requests share runs by the first axis of
            every input and output; 0 where they do not.
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
    batch_axis: bool = False
    max_batch_rows: int = 0

    def labels_of(self, output: str) -> tuple[str, ...]:
        """Return the class names of one output; empty where there are none."""
        return self.labels.get(output) or self.labels.get("") or ()
