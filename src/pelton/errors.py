"""What can go wrong, as one tree that every door and both sides of the wire share.

A request travels decode -> find the model -> check -> run -> encode, and each step has its
own way to fail. A class exists only where a caller would act differently; the finer
distinction is the `Code`, which `wire/status.py` turns into HTTP and gRPC statuses.

    PeltonError
    |-- InvalidRequest      the request is wrong; sending it again will not help
    |   |-- NotFound        no such model, version or path
    |   `-- Conflict        it is there already, or has changed meanwhile
    |-- AccessDenied        who asks is not known, or may not do this
    |-- Unavailable         not now: try again, after `retry_after_s` when it is known
    |-- DeadlineExceeded    the time that the caller allowed is over
    |-- ModelFailed         the model's own code raised
    |-- LoadFailed          a model cannot be loaded; the message is one sentence with the cure
    |-- SettingsError       a setting is unknown or out of range; likewise
    `-- ConnectionFailed    client side: no whole answer came back

Messages are written for the person who sent the request. They name what was wrong and never
hold a path of the server, a traceback, or an internal name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable


class Code(enum.StrEnum):
    """Why a request failed; stable names that clients may match."""

    INVALID_INPUT = "invalid_input"
    MALFORMED_REQUEST = "malformed_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    RECEIVE_TIMEOUT = "receive_timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    URI_TOO_LONG = "uri_too_long"
    UNSUPPORTED_MEDIA = "unsupported_media"
    RATE_LIMITED = "rate_limited"
    HEAD_TOO_LARGE = "head_too_large"
    UNAVAILABLE = "unavailable"
    DISK_FULL = "disk_full"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    MODEL_FAILED = "model_failed"
    INTERNAL = "internal"
    UNIMPLEMENTED = "unimplemented"
    LOAD_FAILED = "load_failed"
    BAD_SETTING = "bad_setting"
    CONNECTION_FAILED = "connection_failed"


class PeltonError(Exception):
    """Root of every error that Pelton raises on purpose.

    Attributes:
        code: why, as a stable name.
        message: one sentence for the person who sent the request.
    """

    code = Code.INTERNAL

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(PeltonError):
    """The request is wrong; the same bytes will fail again."""

    code = Code.INVALID_INPUT


class NotFound(InvalidRequest):
    """The model, the version or the path does not exist here."""

    code = Code.NOT_FOUND


class Conflict(InvalidRequest):
    """What the request would make is there already, or has changed since the caller looked."""

    code = Code.CONFLICT


class AccessDenied(PeltonError):
    """Who asks is not known (`UNAUTHENTICATED`), or may not do this (`FORBIDDEN`)."""

    code = Code.FORBIDDEN


class Unavailable(PeltonError):
    """The server cannot take the request now.

    `RATE_LIMITED` says that this caller sends more than it may, `DISK_FULL` that there is no room
    to keep something.

    Attributes:
        retry_after_s: seconds after which another try is sensible, or None.
    """

    code = Code.UNAVAILABLE

    def __init__(
        self, message: str, retry_after_s: float | None = None, code: Code | None = None
    ) -> None:
        super().__init__(message, code)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(PeltonError):
    """The time that the caller allowed is over."""

    code = Code.DEADLINE_EXCEEDED


class ModelFailed(PeltonError):
    """The model's own code raised; the server and its other models are unharmed."""

    code = Code.MODEL_FAILED


class LoadFailed(PeltonError):
    """A model cannot be loaded."""

    code = Code.LOAD_FAILED


class SettingsError(PeltonError):
    """A setting is unknown, malformed or out of range."""

    code = Code.BAD_SETTING


class ConnectionFailed(PeltonError):
    """Client side: the server could not be reached, or hung up before a whole answer came."""

    code = Code.CONNECTION_FAILED


_CLASS_OF: dict[Code, Callable[[str], PeltonError]] = {
    Code.NOT_FOUND: NotFound,
    Code.CONFLICT: Conflict,
    Code.UNAUTHENTICATED: AccessDenied,
    Code.FORBIDDEN: AccessDenied,
    Code.UNAVAILABLE: Unavailable,
    Code.RATE_LIMITED: Unavailable,
    Code.DISK_FULL: Unavailable,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    Code.MODEL_FAILED: ModelFailed,
    Code.INTERNAL: PeltonError,
    Code.UNIMPLEMENTED: PeltonError,
    Code.LOAD_FAILED: LoadFailed,
    Code.BAD_SETTING: SettingsError,
    Code.CONNECTION_FAILED: ConnectionFailed,
}


def from_code(code: Code, message: str) -> PeltonError:
    """Rebuild on the client the error that the server named by `code`."""
    error = _CLASS_OF.get(code, InvalidRequest)(message)
    error.code = code
    return error
