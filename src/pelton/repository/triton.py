"""Reads a model's `config.pbtxt`, as the Triton Inference Server has it, for ONNX models.

    <root>/<model>/config.pbtxt           what it takes and gives, and how it is served
    <root>/<model>/<version>/model.onnx   or what `default_model_filename` names; also a folder
                                          of that name with a `model.onnx` in it

What it says becomes a `ModelToml`, so that the rest of the repository knows one form only. A field
that would make the model faster and is not known here is told as a warning; one without which it
would answer something else is refused by name. The meaning of the fields is that of Triton's
`model_config.proto` and of its user guide, "Model Configuration".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelton.repository.keeping_toml import MAX_LISTED
from pelton.repository.model_toml import ModelToml, declaring
from pelton.repository.names import MAX_VERSION
from pelton.repository.own_files import MAX_CONFIG_BYTES, inside, read_lines, read_text
from pelton.repository.pbtxt import parse
from pelton.repository.serving_toml import BATCHING, MAX_PREFERRED
from pelton.repository.triton_fields import Section
from pelton.specs import ALL_VERSIONS, TensorSpec, VersionPolicy
from pelton.tensors import DATATYPES, MAX_DIM, MAX_RANK

FILE = "config.pbtxt"

ONNX_FILE = "model.onnx"
"""The model's file where the configuration names none."""

_MAX_ROWS = 65536
_INT32 = 2**31 - 1
_TYPES = {f"TYPE_{'STRING' if name == 'BYTES' else name}": name for name in DATATYPES}
_FORMATS = ("FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW")
_KINDS = ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL")
_GRAPH_LEVELS = {-1: "basic", 0: "all", 1: "extended", 2: "none"}

_READ = (
    "name",
    "platform",
    "backend",
    "max_batch_size",
    "input",
    "output",
    "version_policy",
    "dynamic_batching",
    "instance_group",
    "default_model_filename",
    "parameters",
    "optimization",
    "model_transaction_policy",
)
"""The fields at the top that have their meaning here too."""

_REFUSED = {
    "ensemble_scheduling": "a model made of other models is not served",
    "sequence_batching": "requests that belong together in a sequence are not kept together",
    "batch_input": "no inputs are made up from what a batch holds",
    "batch_output": "outputs are split by rows only",
    "cc_model_filenames": "the file is the same on every GPU; name it in `default_model_filename`",
    "model_operations": "libraries of operators are not loaded",
    "model_repository_agents": "files are loaded as they lie there",
    "runtime": "the library that runs a model is chosen by its platform",
}
_PASSED_OVER = {
    "model_warmup": "every model is warmed up with inputs that are made up",
    "metric_tags": "metrics carry the model's name and version",
    "model_metrics": "the buckets of histograms are the same for all models",
    "response_cache": "the result cache has settings of its own",
}
_PASSED_OVER_IN_BATCHING = {
    "preserve_ordering": "each request has its own answer",
    "priority_levels": "a request's priority counts as it is",
    "default_priority_level": "a request's priority counts as it is",
    "default_queue_policy": "use `max_queue_rows` and `request_timeout_s`",
    "priority_queue_policy": "all priorities share one queue",
}
_PASSED_OVER_IN_GROUP = {
    "rate_limiter": "instances run whenever they are free",
    "host_policy": "instances are not bound to a part of the machine",
    "profile": "only TensorRT has profiles",
    "secondary_devices": "an instance has one device",
}
_PASSED_OVER_IN_OPTIMIZATION = {
    "priority": "all models have the same",
    "cuda": "CUDA graphs are not used",
    "execution_accelerators": "onnxruntime's own kernels are used",
    "input_pinned_memory": "memory is not pinned",
    "output_pinned_memory": "memory is not pinned",
    "gather_kernel_buffer_threshold": "inputs are gathered on the CPU",
    "eager_batching": "a batch is formed when an instance is free",
}
_IN_TENSOR = {
    "input": (
        "format",
        "is_shape_tensor",
        "is_non_linear_format_io",
        "allow_ragged_batch",
        "optional",
    ),
    "output": ("label_filename", "is_shape_tensor", "is_non_linear_format_io"),
}
_REFUSED_IN_TENSOR = {
    "is_shape_tensor": "only TensorRT has shape tensors",
    "is_non_linear_format_io": "only TensorRT has such formats",
    "allow_ragged_batch": "rows of one batch have one shape",
    "optional": "a request must bring every input",
}


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """What a `config.pbtxt` says.

    Attributes:
        said: the same as a `model.toml` would say it.
        warnings: fields that were passed over, a sentence each.
    """

    said: ModelToml
    warnings: tuple[str, ...]


def read_config(folder: Path, name: str) -> TritonConfig | None:
    """Read the `config.pbtxt` of a model's folder; None where there is none.

    Args:
        folder: the model's folder, whose files the configuration may name.
        name: the model's name.

    Raises:
        LoadFailed: it is broken, does not fit the folder, or asks for what would change answers
            and is not supported.
    """
    path, told = folder / FILE, f"{name}/{FILE}"
    if not path.exists():
        return None
    top = Section(parse(read_text(path, told, MAX_CONFIG_BYTES), told), told, "", [])
    top.check_known((*_READ, *_REFUSED, *_PASSED_OVER))
    top.refuse(_REFUSED)
    _check_name_and_platform(top, name)
    _check_transactions(top)
    top.pass_over(_PASSED_OVER)
    threads, inter_op = _threads(top)
    instances, device = _instances(top)
    graph = _graph(top)
    batching = _batching(top)
    options = {"inter_op_threads": inter_op, "device": device, "graph_optimization": graph}
    serving = {"threads": threads, "instances": instances, BATCHING: batching}
    inputs, outputs = _tensors(top, "input"), _tensors(top, "output")
    said = ModelToml(
        runtime="onnx",
        file=top.text("default_model_filename") or None,
        inputs=inputs,
        outputs=outputs,
        labels=_labels(top, folder, told),
        options={key: value for key, value in options.items() if value is not None},
        serving={key: value for key, value in serving.items() if value},
        keeping=_keeping(top),
        declared_in=declaring(FILE, inputs, outputs),
    )
    return TritonConfig(said, tuple(top.warnings))


def with_file(said: ModelToml, folder: Path) -> ModelToml:
    """Return what is said of one version, with the model's file as Triton finds it.

    Args:
        said: what is said of the model and the version.
        folder: the version's folder.
    """
    if said.runtime != "onnx":
        return said
    name = said.file or (ONNX_FILE if (folder / ONNX_FILE).exists() else None)
    if name is not None and (folder / name).is_dir():
        name = f"{name}/{ONNX_FILE}"
    return dataclasses.replace(said, file=name)


def _check_name_and_platform(top: Section, name: str) -> None:
    own = top.text("name")
    if own not in ("", name):
        top.fail("name", f"is {own!r:.140}, and the folder is called {name!r:.140}; make them one")
    for field, onnx in (("platform", "onnxruntime_onnx"), ("backend", "onnxruntime")):
        said = top.text(field)
        if said not in ("", onnx):
            top.fail(field, f"is {said!r:.60}, which is not supported; {onnx!r} is")


def _check_transactions(top: Section) -> None:
    policy = top.section("model_transaction_policy")
    if policy is not None:
        policy.check_known(("decoupled",))
        policy.refuse({"decoupled": "each request has one answer"})


def _tensors(top: Section, field: str) -> tuple[TensorSpec, ...]:
    """Return the inputs or outputs, with the axis of rows in front where there is one."""
    rows = (-1,) if top.whole("max_batch_size", 0, _INT32) else ()
    specs: list[TensorSpec] = []
    for each in top.sections(field):
        each.check_known(("name", "data_type", "dims", "reshape", *_IN_TENSOR[field]))
        each.refuse(_REFUSED_IN_TENSOR)
        each.word("format", _FORMATS)
        name, datatype = each.text("name"), each.word("data_type", _TYPES)
        if not 0 < len(name) <= 256 or any(name == spec.name for spec in specs):
            each.fail("name", f"{name!r:.80} must be there, and no other {field} may have it")
        if not datatype:
            each.fail("data_type", f"of {name!r:.80} is missing")
        specs.append(TensorSpec(name, _TYPES[datatype], (*rows, *_dims(each, name))))
    return tuple(specs)


def _dims(tensor: Section, name: str) -> list[int]:
    dims = tensor.wholes("dims", -1, MAX_DIM)
    if not 0 < len(dims) < MAX_RANK or 0 in dims:
        tensor.fail("dims", f"of {name!r:.80} must be 1 to {MAX_RANK - 1} sizes, from 1, or -1")
    reshape = tensor.section("reshape")
    if reshape is not None and reshape.wholes("shape", -1, MAX_DIM) != dims:
        tensor.fail("reshape", f"of {name!r:.80} is not supported: arrays keep their shapes")
    return dims


def _labels(top: Section, folder: Path, told: str) -> dict[str, tuple[str, ...]]:
    labels = {}
    for output in top.sections("output"):
        file = output.text("label_filename")
        if file:
            path = inside(folder, file, told)
            labels[output.text("name")] = tuple(read_lines(path, f"{told}: {file!r:.120}"))
    return labels


def _batching(top: Section) -> dict[str, Any]:
    """Return how requests share runs.

    Where neither a size of batches nor a tensor is said, Triton asks the model's file, and so
    does this server.
    """
    most = top.whole("max_batch_size", 0, _INT32)
    batcher = top.section("dynamic_batching")
    if most is None and not top.has("input") and not top.has("output"):
        batching: dict[str, Any] = {}
    else:
        batching = {"max_batch_rows": min(most or 1, _MAX_ROWS)}
    if batcher is None:
        return batching
    batcher.check_known(
        (
            "preferred_batch_size",
            "max_queue_delay_microseconds",
            *_PASSED_OVER_IN_BATCHING,
        )
    )
    preferred = sorted(set(batcher.wholes("preferred_batch_size", 1, _INT32)))
    if preferred and preferred[-1] > (most or 0):
        batcher.fail(
            "preferred_batch_size", f"is {preferred[-1]}, above `max_batch_size`, {most or 0}"
        )
    if batching and not most:
        top.warn("dynamic_batching", "`max_batch_size` is 0, so requests run alone")
        return batching
    if len(preferred) > MAX_PREFERRED:
        batcher.fail("preferred_batch_size", f"has more than {MAX_PREFERRED} sizes")
    delay = batcher.whole("max_queue_delay_microseconds", 0, 2**63 - 1)
    batcher.pass_over(_PASSED_OVER_IN_BATCHING)
    said = {"max_delay_ms": (delay or 0) / 1000, "preferred_batch_rows": tuple(preferred)}
    return {**batching, **{key: value for key, value in said.items() if value}}


def _instances(top: Section) -> tuple[int, str | None]:
    """Return how many instances there shall be, 0 for as many as suit, and on which device."""
    count, devices = 0, set()
    for group in top.sections("instance_group"):
        group.check_known(("name", "kind", "count", "gpus", "passive", *_PASSED_OVER_IN_GROUP))
        group.pass_over(_PASSED_OVER_IN_GROUP)
        if group.flag("passive"):
            group.warn("passive", "its instances are left out")
            continue
        count += group.whole("count", 0, 256) or 0
        devices.add(_device(group))
    if len(devices) > 1:
        top.warn("instance_group", "its groups have several devices, and a model has one")
    if count > 256:
        top.fail("instance_group", "asks for more than 256 instances")
    device = min((one for one in devices if one is not None), default=None)
    return count, device


def _device(group: Section) -> str | None:
    kind, gpus = group.word("kind", _KINDS), group.wholes("gpus", 0, 255)
    if len(gpus) > 1:
        group.warn("gpus", f"all instances are on the first of them, {gpus[0]}")
    if gpus:
        return f"cuda:{gpus[0]}"
    # Answers are the same wherever a model runs, so it runs where there is no GPU as well.
    return {"KIND_CPU": "cpu", "KIND_GPU": "auto"}.get(kind)


def _graph(top: Section) -> str | None:
    optimization = top.section("optimization")
    if optimization is None:
        return None
    optimization.check_known(("graph", *_PASSED_OVER_IN_OPTIMIZATION))
    optimization.pass_over(_PASSED_OVER_IN_OPTIMIZATION)
    graph = optimization.section("graph")
    level = graph.whole("level", -1, 2) if graph is not None else None
    return None if level is None else _GRAPH_LEVELS[level]


def _threads(top: Section) -> tuple[int, int | None]:
    """Return the threads within and across operators, as `parameters` give them."""
    threads: dict[str, int | None] = {"intra_op_thread_count": 0, "inter_op_thread_count": None}
    for each in top.sections("parameters"):
        each.check_known(("key", "value"))
        key, value = each.text("key"), each.section("value")
        said = value.text("string_value") if value else ""
        if key not in threads:
            top.warn("parameters", f"{key!r:.60} means nothing here")
        elif not said.isascii() or not said.isdigit() or len(said) > 4 or int(said) > 1024:
            top.fail("parameters", f"give {key} as {said!r:.40}; it must be a number to 1024")
        else:
            threads[key] = int(said)
    return threads["intra_op_thread_count"] or 0, threads["inter_op_thread_count"]


def _keeping(top: Section) -> Mapping[str, Any]:
    policy = top.section("version_policy")
    if policy is None:
        return {}
    choices = ("latest", "all", "specific")
    policy.check_known(choices)
    said = [(name, policy.section(name)) for name in choices if policy.has(name)]
    if len(said) != 1:
        top.fail("version_policy", f"must be one of {', '.join(choices)}")
    ((name, choice),) = said
    if name == "all" or choice is None:
        return {"policy": ALL_VERSIONS}
    if name == "latest":
        choice.check_known(("num_versions",))
        return {"policy": VersionPolicy(choice.whole("num_versions", 0, MAX_VERSION) or 1)}
    choice.check_known(("versions",))
    versions = choice.wholes("versions", 1, MAX_VERSION)
    if not 0 < len(versions) <= MAX_LISTED:
        policy.fail("specific", f"must have 1 to {MAX_LISTED} versions")
    return {"policy": VersionPolicy(None, tuple(sorted(set(versions))))}
