"""What can be asked of a server: each question as a request and the way to read its reply.

The clients for threads and for `asyncio` share this; they differ only in who waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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

Chunks = Sequence[bytes | memoryview]

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


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One question.

    Attributes:
        request: what is sent.
        read: reply -> answer; raises the error that the server told.
        idempotent: whether the server may act on it twice.
    """

    request: Request
    read: Callable[[Reply], T]
    idempotent: bool


@dataclass(frozen=True, slots=True)
class InferOptions:
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
        self._fields = [("Host", address.authority), ("User-Agent", "pelton"), *fields.items()]
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
        if message.header_bytes is None:
            fields = [("Content-Type", "application/json")]
        else:
            fields = [
                ("Content-Type", "application/octet-stream"),
                ("Inference-Header-Content-Length", str(message.header_bytes)),
            ]
        path = model_path(model, options.version, "/infer")
        request = self._post(path, fields, message.chunks, message.size)
        return Call(request, lambda reply: read_infer(reply, self._limits), options.idempotent)

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
        path = f"/infer?{query}" if query else "/infer"
        fields = [("Content-Type", "application/octet-stream")]
        request = self._post(path, fields, chunks, sum(map(len, chunks)))
        return Call(request, lambda reply: read_output(reply, self._limits), idempotent)

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
        request = self._request("GET", path, [], ())
        return Call(request, lambda reply: read_yes(reply, self._limits), idempotent=True)

    def _get(self, path: str, shape: Callable[[dict[str, Any]], T]) -> Call[T]:
        request = self._request("GET", path, [], ())
        return Call(request, lambda reply: shape(read_json(reply, self._limits)), idempotent=True)

    def _post(self, path: str, fields: list[tuple[str, str]], chunks: Chunks, size: int) -> Request:
        return self._request("POST", path, [*fields, ("Content-Length", str(size))], chunks)

    def _request(
        self, method: str, path: str, fields: list[tuple[str, str]], chunks: Chunks
    ) -> Request:
        head = build_head(method, self._prefix + path, (*self._fields, *fields))
        return Request(head, tuple(memoryview(chunk) for chunk in chunks))


def _array(name: str, value: npt.ArrayLike) -> Array:
    if isinstance(value, np.ndarray):
        return value
    try:
        array: Array = np.asarray(value)
    except ValueError:
        raise InvalidRequest(f"input {name!r:.60} is no array: its rows differ in length") from None
    return array
