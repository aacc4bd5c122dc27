"""Loads ONNX files and runs them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pelton.errors import InvalidRequest, LoadFailed
from pelton.messages import Value
from pelton.runtimes.choices import own_options
from pelton.runtimes.contract import LoadedModel, RuntimeOptions, Stop
from pelton.runtimes.declared import Kind, declared, reconcile
from pelton.runtimes.extras import needs
from pelton.runtimes.memory import give_memory_back
from pelton.runtimes.onnx.file import OnnxFacts, check_external, read_facts
from pelton.runtimes.onnx.session import bfloat16_runner, device_of, open_session, runner
from pelton.runtimes.onnx.values import DATATYPES, feeder, reader
from pelton.specs import ModelMetadata, ModelSpec, TensorSpec

logger = logging.getLogger("pelton.runtimes")

OPTIONS = {
    "device": str,
    "inter_op_threads": int,
    "allow_spinning": bool,
    "graph_optimization": str,
}
"""What `[options]` of a `model.toml` may set, as in `RuntimeOptions`."""

_BATCH_NAME = re.compile(r"n|b|bs|bsz|rows|samples|.*batch.*", re.IGNORECASE)
"""How exporters and people call the axis of independent rows; any other might be a time axis."""


def load(spec: ModelSpec, options: RuntimeOptions) -> LoadedModel:
    """Load an ONNX file.

    Args:
        spec: the model; declared inputs and outputs must agree with the file's.
        options: how to run it.

    Raises:
        LoadFailed: the file is broken, unsafe, or needs what is not here.
    """
    with needs("onnxruntime", "server"):
        import onnxruntime  # noqa: F401
    chosen = dataclasses.replace(options, **own_options(spec, OPTIONS))
    try:
        path = spec.path.resolve(strict=True)
    except OSError as error:
        raise LoadFailed(f"{spec.path.name} cannot be read: {error.strerror}") from error
    facts = read_facts(path)
    external_bytes = check_external(path, facts.locations)
    session = open_session(path, chosen)
    inputs = _specs(session.get_inputs(), spec, facts, "input")
    outputs = _specs(session.get_outputs(), spec, facts, "output")
    _refuse_text_beside_bfloat16(inputs, outputs)
    nodes = [*session.get_inputs(), *session.get_outputs()]
    metadata = ModelMetadata(
        name=spec.name,
        version=str(spec.version),
        platform="onnxruntime_onnx",
        inputs=inputs,
        outputs=outputs,
        labels=spec.labels or _labels(facts, spec.name),
        device=device_of(session),
        model_type="ONNX",
        parameters=facts.parameters,
        size_bytes=path.stat().st_size + external_bytes,
        batch_axis=has_batch_axis([node.shape for node in nodes])
        and all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs)),
    )
    return OnnxModel(session, metadata, facts)


class OnnxModel:
    """A model in an onnxruntime session, which runs in any number of threads at once."""

    concurrent = True

    def __init__(self, session: Any, metadata: ModelMetadata, facts: OnnxFacts) -> None:
        from onnxruntime import RunOptions
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        # How long a loop takes may depend on the inputs' values, so no measured time tells of it.
        self.quick = not facts.loops
        self.metadata = metadata
        self._session = session
        # Without options each run makes some of its own, which takes as long as a tiny model.
        self._usual = RunOptions()
        self._refusal: type[Exception] = InvalidArgument
        self._names = [spec.name for spec in metadata.outputs]
        self._feeders = [(spec.name, feeder(spec)) for spec in metadata.inputs]
        readers = {one.name: reader(one, facts.zip_maps.get(one.name)) for one in metadata.outputs}
        self._readers = [(name, read) for name, read in readers.items() if read is not None]
        tensors = (*metadata.inputs, *metadata.outputs)
        has_bfloat16 = any(spec.datatype == "BF16" for spec in tensors)
        self._compute = bfloat16_runner(session) if has_bfloat16 else runner(session)

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Compute every output; see `LoadedModel.run`.

        Raises:
            InvalidRequest: onnxruntime refuses the inputs, or a text is not UTF-8.
        """
        return self._run(inputs, self._usual)

    def run_until(self, inputs: Mapping[str, Value], stop: Stop) -> dict[str, Value]:
        """Compute every output unless `stop` is asked before; see `Stoppable.run_until`.

        Raises:
            InvalidRequest: as `run`.
            Exception: onnxruntime's own, once `stop` was asked.
        """
        from onnxruntime import RunOptions

        how = RunOptions()
        stop.on_ask(lambda: setattr(how, "terminate", True))
        try:
            return self._run(inputs, how)
        finally:
            stop.on_ask(None)

    def _run(self, inputs: Mapping[str, Value], how: Any) -> dict[str, Value]:
        feed = {}
        for name, convert in self._feeders:
            feed[name] = convert(inputs[name])
        try:
            values = self._compute(self._names, feed, how)
        except self._refusal as error:
            raise InvalidRequest(_refusal(str(error))) from error
        outputs = dict(zip(self._names, values, strict=True))
        for name, read in self._readers:
            outputs[name] = read(outputs[name])
        return outputs

    def close(self) -> None:
        """Free the session's memory."""
        del self._session, self._compute
        give_memory_back()


def _specs(
    nodes: Sequence[Any], model: ModelSpec, facts: OnnxFacts, kind: Kind
) -> tuple[TensorSpec, ...]:
    shapes = {spec.name: spec.shape for spec in declared(model, kind)}
    told = []
    for node in nodes:
        datatype = DATATYPES.get(node.type)
        shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
        if datatype is None and facts.zip_maps.get(node.name):
            datatype, shape = "FP32", (-1, len(facts.zip_maps[node.name]))
        if datatype is None:
            raise LoadFailed(
                f"the {kind} {node.name!r:.80} is a {node.type:.80}, and only tensors can be "
                "served; export the model without it"
            )
        # onnxruntime shows a tensor of no declared shape as one of no dimensions.
        if node.name in facts.unranked and not shape:
            if kind == "input" and node.name not in shapes:
                raise LoadFailed(
                    f"the input {node.name!r:.80} has no declared shape in the file; "
                    "declare it under [[inputs]] in a model.toml, with -1 for any size"
                )
            shape = shapes.get(node.name, (-1,))
        told.append(TensorSpec(node.name, datatype, shape))
    return reconcile(told, model, kind)


def has_batch_axis(shapes: Sequence[Sequence[int | str | None]]) -> bool:
    """Return whether the first axis of all tensors counts independent rows.

    It does where every input and output begins with one and the same named size, which is
    called like a batch and appears nowhere else. Only the name can tell it from, say, a time
    axis, along which requests must not be strung together.

    Args:
        shapes: of each input and output: sizes, names of sizes, None for neither.
    """
    first = {shape[0] if shape else None for shape in shapes}
    others = {size for shape in shapes for size in shape[1:]}
    if len(first) != 1:
        return False
    name = first.pop()
    return isinstance(name, str) and bool(_BATCH_NAME.fullmatch(name)) and name not in others


def _refuse_text_beside_bfloat16(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    if any(spec.datatype == "BYTES" for spec in inputs) and any(
        spec.datatype == "BF16" for spec in (*inputs, *outputs)
    ):
        raise LoadFailed(
            "the model takes text and has bfloat16 tensors too, which onnxruntime cannot be "
            "given together; cast the bfloat16 ones to float32 in the model"
        )


def _labels(facts: OnnxFacts, model: str) -> dict[str, tuple[str, ...]]:
    """Return the class names that the file itself holds, by output."""
    labels = {name: classes for name, classes in facts.zip_maps.items() if classes}
    text = facts.properties.get("labels")
    if text is None:
        return labels
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(text)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            "".join(names).encode()  # a lone surrogate could not be sent
            return {"": tuple(names), **labels}
    logger.warning("model %s: its metadata entry 'labels' is no JSON list of texts", model)
    return labels


def _refusal(said: str) -> str:
    """Put onnxruntime's refusal of an input into a sentence without names of inner nodes."""
    said = said.partition(" : INVALID_ARGUMENT : ")[2].partition("Please fix")[0]
    reason = " ".join(said.rpartition("Status Message: ")[2].split()).rstrip(".")
    if not reason or "/" in reason or "::" in reason:
        return "the model cannot compute with inputs of these shapes or values"
    return f"the model refuses its inputs: {reason:.200}"
