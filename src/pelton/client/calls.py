"""What can be asked of a server: each question as a request and the way to read its reply.

The clients for threads and for `asyncio` share this; they differ only in who waits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pelton.client.address import Address, model_path, quoted
from pelton.client.described import (
    ModelDescription,
    ServerDescription,
    model_from_json,
    models_from_json,
    server_from_json,
)
from pelton.client.http1 import Reply, Request, build_head, check_headers
from pelton.client.replies import read_infer, read_json, read_output, read_yes
from pelton.errors import InvalidRequest, SettingsError
from pelton.messages import InferResponse, Parameter, Value
from pelton.tensors import Array
from pelton.wire import oip_client, pickled
from pelton.wire.limits import Limits

T = TypeVar("T")

Fields = tuple[tuple[str, str], ...]

_PICKLE_STYLE = pickled.PickleStyle(protocol=5, old_numpy=False, out_of_band=True)

_OWN_FIELDS = {
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "inference-header-content-length",
    "te",
    "transfer-encoding",
    "upgrade",
}


class Call(NamedTuple, Generic[T]):
    """One question.

    Attributes:
        request: what is sent.
        read: reply -> answer; raises the error that the server told.
        idempotent: whether the server may act on it twice.
    """

    request: Request
    read: Callable[[Reply], T]
    idempotent: bool


class InferOptions(NamedTuple):
    """What may be added to an inference.

    Attributes:
        outputs: names of the wanted outputs; empty means all.
        version: the model's version, or None for the one that the server picks.
        request_id: echoed in the answer.
        parameters: passed to the server as they are.
        datatypes: input name -> datatype, where the dtype of its array does not tell it.
        idempotent: whether the model may run twice for this request.
    """

    outputs: Sequence[str] = ()
    version: str | int | None = None
    request_id: str = ""
    parameters: Mapping[str, Parameter] | None = None
    datatypes: Mapping[str, str] | None = None
    idempotent: bool = False


class Calls:
    """Writes requests for one server."""

    def __init__(
        self, address: Address, headers: Mapping[str, str] | None, max_reply_bytes: int
    ) -> None:
        """Check what every request will carry.

        Args:
            address: the server.
            headers: further header fields, such as `Authorization`.
            max_reply_bytes: largest reply, also after its values were expanded to arrays.

        Raises:
            SettingsError: a header cannot be sent, or is not the caller's to set.
        """
        fields = dict(headers or {})
        check_headers(fields.items())
        for name in fields:
            if name.lower() in _OWN_FIELDS:
                raise SettingsError(f"the header {name} is set by the client itself")
        self._prefix = address.prefix
        self._fields = (("Host", address.authority), ("User-Agent", "pelton"), *fields.items())
        self._limits = Limits(max_body_bytes=max_reply_bytes)

    def infer(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], options: InferOptions
    ) -> Call[InferResponse]:
        """Run a model on tensors: `POST /v2/models/NAME/infer`, all tensors binary."""
        wanted = options.outputs
        message = oip_client.encode_request(
            {name: _array(name, value) for name, value in inputs.items()},
            (wanted,) if isinstance(wanted, str) else tuple(wanted),
            request_id=options.request_id,
            parameters=options.parameters,
            datatypes=options.datatypes,
        )
        target = self._prefix + model_path(model, options.version, "/infer")
        head = _infer_head(target, self._fields, message.header_bytes, message.size)
        read = functools.partial(read_infer, limits=self._limits)
        return Call(Request(head, message.chunks), read, options.idempotent)

    def predict(
        self, data: Value, model: str | None, query: str = "", *, idempotent: bool = False
    ) -> Call[Value]:
        """Hand a model any plain value: `POST /infer`, pickled as data only."""
        try:
            chunks = pickled.encode(data, _PICKLE_STYLE)
        except TypeError as problem:
            raise InvalidRequest(f"the data cannot be sent: {problem}") from problem
        if model is not None:
            query = f"model={quoted(model, 'model name')}"
        target = f"{self._prefix}/infer?{query}" if query else f"{self._prefix}/infer"
        head = _predict_head(target, self._fields, sum(map(len, chunks)))
        read = functools.partial(read_output, limits=self._limits)
        return Call(Request(head, chunks), read, idempotent)

    def server_live(self) -> Call[bool]:
        """Ask whether the server's process answers."""
        return self._ask("/v2/health/live")

    def server_ready(self) -> Call[bool]:
        """Ask whether the server takes work."""
        return self._ask("/v2/health/ready")

    def model_ready(self, model: str, version: str | int | None) -> Call[bool]:
        """Ask whether a model takes work."""
        return self._ask(model_path(model, version, "/ready"))

    def server_metadata(self) -> Call[ServerDescription]:
        """Ask for the server's name, version and extensions."""
        return self._get("/v2", server_from_json)

    def model_metadata(self, model: str, version: str | int | None) -> Call[ModelDescription]:
        """Ask for a model's inputs and outputs."""
        return self._get(model_path(model, version), model_from_json)

    def models(self) -> Call[tuple[ModelDescription, ...]]:
        """Ask for all models."""
        return self._get("/v2/models", models_from_json)

    def stats(self, model: str | None) -> Call[dict[str, Any]]:
        """Ask for the counts and times since the server's start."""
        query = "" if model is None else f"?model={quoted(model, 'model name')}"
        return self._get(f"/stats{query}", dict)

    def _ask(self, path: str) -> Call[bool]:
        request = Request(build_head("GET", self._prefix + path, self._fields))
        return Call(request, lambda reply: read_yes(reply, self._limits), idempotent=True)

    def _get(self, path: str, shape: Callable[[dict[str, Any]], T]) -> Call[T]:
        request = Request(build_head("GET", self._prefix + path, self._fields))
        return Call(request, lambda reply: shape(read_json(reply, self._limits)), idempotent=True)


@functools.lru_cache(maxsize=256)
def _infer_head(target: str, fields: Fields, header_bytes: int | None, size: int) -> bytes:
    """Write the head of an inference; a program sends the same one each time."""
    if header_bytes is None:
        kind: Fields = (("Content-Type", "application/json"),)
    else:
        kind = (
            ("Content-Type", "application/octet-stream"),
            ("Inference-Header-Content-Length", str(header_bytes)),
        )
    return build_head("POST", target, (*fields, *kind, ("Content-Length", str(size))))


@functools.lru_cache(maxsize=256)
def _predict_head(target: str, fields: Fields, size: int) -> bytes:
    kind = ("Content-Type", "application/octet-stream")
    return build_head("POST", target, (*fields, kind, ("Content-Length", str(size))))


def _array(name: str, value: npt.ArrayLike) -> Array:
    if isinstance(value, np.ndarray):
        return value
    try:
        array: Array = np.asarray(value)
    except ValueError:
        raise InvalidRequest(f"input {name!r:.60} is no array: its rows differ in length") from None
    return array
