"""A curl line that answers when pasted, made from what a model says of itself."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence

from pelton.specs import ModelMetadata, TensorSpec

LONGEST_DATA = 256
"""Elements; a line with more is no line to paste."""


KEY = '-H "Authorization: Bearer $PELTON_API_KEY" '
"""The key as a shell has it, who should not see it in its history."""


def curl_line(url: str, models: Sequence[ModelMetadata], with_key: bool = False) -> str:
    """Return a request to the first model whose inputs fit on a line.

    Args:
        url: where the server listens.
        models: the served models.
        with_key: whether the server wants one.

    Returns:
        An inference of zeros, or, where no model's inputs are small enough, a question for the
        server's health.
    """
    for metadata in models:
        if metadata.inputs and all(_fits(spec) for spec in metadata.inputs):
            inputs = [_zeros(spec) for spec in metadata.inputs]
            body = json.dumps({"inputs": inputs}, separators=(",", ":"))
            key = KEY if with_key else ""
            return f"curl -s {key}{url}/v2/models/{metadata.name}/infer -d {shlex.quote(body)}"
    return f"curl -s {url}/health"


def _shape(spec: TensorSpec) -> list[int]:
    return [1 if dim == -1 else dim for dim in spec.shape]


def _fits(spec: TensorSpec) -> bool:
    return math.prod(_shape(spec)) <= LONGEST_DATA and spec.datatype not in ("FP16", "BF16")


def _zeros(spec: TensorSpec) -> dict[str, object]:
    shape = _shape(spec)
    zero: object = {"BYTES": "", "BOOL": False}.get(spec.datatype, 0)
    data = [zero] * math.prod(shape)
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data}
