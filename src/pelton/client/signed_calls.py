"""Sends objects of any class, signed, to servers that take them (`docs/trusted-objects.md`).

The object becomes a pickle here, which only the server's throw-away worker will open. What comes
back is data, as always.
"""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pelton.client.address import quoted
from pelton.client.calls import Call, Calls, Fields, timeout_fields
from pelton.client.replies import read_output
from pelton.errors import InvalidRequest, SettingsError
from pelton.messages import Value
from pelton.trusted.algorithms import hmac_signer
from pelton.trusted.signing import KEY_ID, Sign, sign
from pelton.wire import pickle_frame

Chunks = list[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What a client signs objects with; the server's keys file has its counterpart.

    Attributes:
        id: its name in that file.
        secret: at least 32 random bytes; or, for a key of Ed25519, what
            `pelton.trusted.ed25519.signer` makes of the private key.

    Raises:
        SettingsError: one of them cannot be used.
    """

    id: str
    secret: bytes | Sign = field(repr=False)

    def __post_init__(self) -> None:
        if not KEY_ID.fullmatch(self.id):
            raise SettingsError(f"{self.id!r:.80} cannot be the id of a signing key")
        if isinstance(self.secret, bytes):
            try:
                hmac_signer(self.secret)
            except ValueError as problem:
                raise SettingsError(f"signing key {self.id!r}: {problem}") from None


class SignedCalls:
    """Writes requests with signed objects.

    Args:
        calls: writes what every request has in common.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def predict(
        self,
        inputs: Mapping[str, Any],
        model: str,
        key: SigningKey,
        *,
        idempotent: bool,
        timeout_s: float | None,
    ) -> Call[Value]:
        """Hand a model any objects: `POST /infer`, signed anew for each try.

        Raises:
            InvalidRequest: they cannot be pickled, or the model's name is none.
        """
        target = f"/infer?model={quoted(model, 'model name')}"
        chunks = _pickled(inputs)
        kind = (
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(sum(map(len, chunks)))),
            *timeout_fields(timeout_s),
        )

        def write(fields: Fields) -> Call[Value]:
            fields = (*fields, *kind)
            return self._calls.call(
                "POST", target, read_output, fields=fields, idempotent=idempotent
            )

        def signed() -> bytes:
            made = sign(key.id, key.secret, "POST", target, model, chunks, time.time())
            return write(tuple(made.items())).request.head

        call = write(())
        return call._replace(request=call.request._replace(chunks=chunks, sign=signed))


def _pickled(inputs: Mapping[str, Any]) -> Chunks:
    """Return a frame with the memory of arrays beside the pickle, uncopied."""
    buffers: list[memoryview] = []
    keep = functools.partial(_kept_outside, buffers)
    try:
        stream = pickle.dumps(dict(inputs), protocol=5, buffer_callback=keep)
    # Border: an object's own `__reduce__` may raise anything.
    except Exception as problem:
        raise InvalidRequest(f"the objects cannot be pickled: {problem}") from problem
    return pickle_frame.join([stream], buffers)


def _kept_outside(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    """Take a buffer out of the pickle; True leaves it in (PEP 574)."""
    if len(buffers) >= pickle_frame.MAX_BUFFERS:
        return True
    try:
        buffers.append(buffer.raw())
    except BufferError:  # not contiguous
        return True
    return False
