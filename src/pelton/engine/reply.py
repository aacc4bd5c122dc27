"""What a model gave, as the answer to one request."""

from __future__ import annotations

from pelton.engine.digest import digest_of
from pelton.engine.model import Model
from pelton.errors import InvalidRequest, ModelFailed
from pelton.messages import InferRequest, InferResponse, Timing, Value


def reply(
    request: InferRequest, model: Model, outputs: dict[str, Value], timing: Timing
) -> InferResponse:
    """Return the answer to a request.

    Args:
        request: what was asked.
        model: the version that ran.
        outputs: every output that it gave, by name.
        timing: where the time went.

    Raises:
        InvalidRequest: an output is wanted that the model does not give.
        ModelFailed: an output is nothing that an answer can hold; noticed in deterministic mode.
    """
    metadata = model.metadata
    if request.outputs:
        outputs = _wanted(request.outputs, outputs, metadata.name)
    response = InferResponse(metadata.name, metadata.version, outputs, request.id, timing)
    response.metadata = metadata
    if model.deterministic:
        try:
            response.digest = digest_of(outputs)
        except TypeError as error:
            raise ModelFailed(f"the model's output cannot be sent: {error}") from error
    return response


def _wanted(names: tuple[str, ...], outputs: dict[str, Value], model: str) -> dict[str, Value]:
    for name in names:
        if name not in outputs:
            raise InvalidRequest(
                f"model {model!r} has no output {name!r:.80}; "
                f"it gives {', '.join(list(outputs)[:20])}"
            )
    return {name: outputs[name] for name in names}
