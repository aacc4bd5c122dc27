"""What can be asked of a server: each question as a request and the way to read its reply.

The clients for threads and for `asyncio` share this; they differ only in who waits.
"""

from __future__ import annotations

import functools
import json
import math
import re
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
from pelton.client.replies import (
    read_infer,
    read_json,
    read_nothing,
    read_output,
    read_regions,
    read_yes,
)
from pelton.errors import InvalidRequest, SettingsError
from pelton.messages import InferResponse, Parameter, Value
from pelton.tensors import Array
from pelton.wire import oip_client, pickled
from pelton.wire.array_bytes import bytes_of
from pelton.wire.limits import Limits

T = TypeVar("T")

Fields = tuple[tuple[str, str], ...]

_PICKLE_STYLE = pickled.PickleStyle(protocol=5, old_numpy=False, out_of_band=True)

_REMEMBERED = 256
"""Kinds of inferences that are written only once."""

_TIMEOUT_FIELD = "X-Request-Timeout-Ms"
_REGIONS = "/v2/systemsharedmemory"
_TARGET = re.compile(r"/[!-~]*")

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
    "x-pelton-signature",
    "x-request-timeout-ms",
}


class Call(NamedTuple, Generic[T]):
    """One question.

    Attributes:
        request: what is sent.
        read: reply -> answer; raises the error that the server told.
        idempotent: whether the server may act on it twice.
        patient: whether one try may take all the time that the call has.
    """

    request: Request
    read: Callable[[Reply], T]
    idempotent: bool
    patient: bool = False


class InferOptions(NamedTuple):
    """What may be added to an inference.

    Attributes:
        outputs: names of the wanted outputs; empty means all.
        version: the model's version, or None for the one that the server picks.
        request_id: echoed in the answer.
        parameters: passed to the server as they are.
        datatypes: input name -> datatype, where the dtype of its array does not tell it.
        idempotent: whether the model may run twice for this request.
        timeout_s: seconds that the whole call may take, which the server is told; None for what
            the client allows every call.
        priority: 1 is served first; 0 is the default, which is the middle.
        timing: whether the answer shall tell where the time went.
    """

    outputs: Sequence[str] = ()
    version: str | int | None = None
    request_id: str = ""
    parameters: Mapping[str, Parameter] | None = None
    datatypes: Mapping[str, str] | None = None
    idempotent: bool = False
    timeout_s: float | None = None
    priority: int = 0
    timing: bool = False


class SharedTensors(NamedTuple):
    """What of an inference goes through shared memory.

    Attributes:
        sharing: how the request tells of it.
        places: output name -> the memory in which it shall come.
    """

    sharing: oip_client.Sharing
    places: Mapping[str, memoryview]


_NONE_SHARED = SharedTensors(oip_client.Sharing(), {})
_USUAL = InferOptions()


class _Written(NamedTuple):
    """What is the same in all inferences of one kind: all but the elements.

    Attributes:
        head: of the HTTP request.
        header: the JSON part of its body.
    """

    head: bytes
    header: bytes | memoryview


def timeout_fields(timeout_s: float | None) -> Fields:
    """Return what tells the server how long it may take; nothing for None.

    The same for each request of a program, so that the server may remember the head.
    """
    return () if timeout_s is None else ((_TIMEOUT_FIELD, str(math.ceil(timeout_s * 1000))),)


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
        self._written: dict[tuple[object, ...], _Written] = {}

    def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        options: InferOptions,
        shared: SharedTensors = _NONE_SHARED,
    ) -> Call[InferResponse]:
        """Run a model on tensors: `POST /v2/models/NAME/infer`, those not shared binary."""
        kind = _kind(model, inputs, shared.sharing) if options == _USUAL else None
        written = None if kind is None else self._written.get(kind)
        read = functools.partial(read_infer, limits=self._limits, places=shared.places)
        if written is not None:
            placed = shared.sharing.inputs
            chunks: list[bytes | memoryview] = [written.header]
            chunks += [
                bytes_of(array_of(name, each))
                for name, each in inputs.items()
                if name not in placed
            ]
            return Call(Request(written.head, chunks), read, options.idempotent)
        message = oip_client.encode_request(
            {name: array_of(name, value) for name, value in inputs.items()},
            names_of(options.outputs),
            request_id=options.request_id,
            parameters=_parameters(options),
            datatypes=options.datatypes,
            sharing=shared.sharing,
        )
        target = self._prefix + model_path(model, options.version, "/infer")
        fields = self._fields_with(options.timeout_s)
        head = _infer_head(target, fields, message.header_bytes, message.size)
        if kind is not None:
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            self._written[kind] = _Written(head, message.chunks[0])
        return Call(Request(head, message.chunks), read, options.idempotent)

    def predict(
        self,
        data: Value,
        model: str | None,
        query: str = "",
        *,
        idempotent: bool = False,
        timeout_s: float | None = None,
    ) -> Call[Value]:
        """Hand a model any plain value: `POST /infer`, pickled as data only."""
        try:
            chunks = pickled.encode(data, _PICKLE_STYLE)
        except TypeError as problem:
            raise InvalidRequest(f"the data cannot be sent: {problem}") from problem
        if model is not None:
            query = f"model={quoted(model, 'model name')}"
        target = f"{self._prefix}/infer?{query}" if query else f"{self._prefix}/infer"
        head = _predict_head(target, self._fields_with(timeout_s), sum(map(len, chunks)))
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

    def ask_json(
        self, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> Call[dict[str, Any]]:
        """Ask an endpoint that has no method of its own here; None for no body."""
        if _TARGET.fullmatch(path) is None:
            raise InvalidRequest(f"{path!r:.80} is no path of a URL, quoted, from its first / on")
        fields = tuple(headers.items())
        check_headers(fields)
        sent = b"" if body is None else json.dumps(body).encode()
        if sent:
            length = ("Content-Length", str(len(sent)))
            fields = (*fields, ("Content-Type", "application/json"), length)
        asks = method == "GET"
        return self.call(method, path, read_json, fields=fields, body=sent, idempotent=asks)

    def call(
        self,
        method: str,
        path: str,
        read: Callable[[Reply, Limits], T],
        *,
        fields: Fields = (),
        body: bytes = b"",
        idempotent: bool = False,
    ) -> Call[T]:
        """Write any request; `fields` tell of its body, if it has one."""
        head = build_head(method, self._prefix + path, (*self._fields, *fields))
        return Call(Request(head, [body]), lambda reply: read(reply, self._limits), idempotent)

    def regions(self) -> Call[set[tuple[str, str]]]:
        """Ask for name and key of all shared memory regions that are registered."""
        request = Request(build_head("GET", f"{self._prefix}{_REGIONS}/status", self._fields))
        return Call(request, functools.partial(read_regions, limits=self._limits), idempotent=True)

    def register(self, region: str, size_bytes: int) -> Call[None]:
        """Have the server map a shared memory object of the region's name."""
        told = {"key": f"/{region}", "offset": 0, "byte_size": size_bytes}
        return self._command(f"{_REGIONS}/region/{region}/register", json.dumps(told).encode())

    def unregister(self, region: str) -> Call[None]:
        """Have the server forget a region."""
        return self._command(f"{_REGIONS}/region/{region}/unregister", b"{}")

    def _command(self, path: str, body: bytes) -> Call[None]:
        length = ("Content-Length", str(len(body)))
        fields = (*self._fields, ("Content-Type", "application/json"), length)
        request = Request(build_head("POST", self._prefix + path, fields), [body])
        return Call(request, functools.partial(read_nothing, limits=self._limits), False)

    def _fields_with(self, timeout_s: float | None) -> Fields:
        """Return the header fields, with the time that the server may take."""
        return self._fields if timeout_s is None else (*self._fields, *timeout_fields(timeout_s))

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


def _kind(
    model: str, inputs: Mapping[str, npt.ArrayLike], sharing: oip_client.Sharing
) -> tuple[object, ...] | None:
    """Return what an inference without options has in common with others of its kind.

    None where a tensor's size does not follow from its shape, or something is no array yet.
    """
    if type(model) is not str:
        return None
    kind: list[object] = [model]
    for name, value in inputs.items():
        if type(value) is not np.ndarray or value.dtype.kind not in "biuf":
            return None
        kind += (name, value.dtype, value.shape)
    if sharing.inputs or sharing.outputs:
        kind += (*sharing.inputs.items(), None, *sharing.outputs.items())
    return tuple(kind)


def _parameters(options: InferOptions) -> Mapping[str, Parameter] | None:
    priority = options.priority
    if type(priority) is not int or priority < 0:
        raise InvalidRequest(f"priority must be a whole number from 0 on, not {priority!r:.40}")
    if not (priority or options.timing):
        return options.parameters
    own = dict(options.parameters or {})
    if priority:
        own["priority"] = priority
    if options.timing:
        own["timing"] = True
    return own


def names_of(outputs: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the wanted outputs; a single name may stand for itself."""
    return (outputs,) if isinstance(outputs, str) else tuple(outputs)


def array_of(name: str, value: npt.ArrayLike) -> Array:
    """Return an input as an array.

    Raises:
        InvalidRequest: it is none.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        array: Array = np.asarray(value)
    except ValueError:
        raise InvalidRequest(f"input {name!r:.60} is no array: its rows differ in length") from None
    return array
