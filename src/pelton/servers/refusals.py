"""What the gate says when it refuses a request itself."""

from __future__ import annotations

from pelton.errors import Code, InvalidRequest, Unavailable

_RETRY_AFTER_S = 1.0


def too_many_connections() -> Unavailable:
    """The cap is reached, and no connection is idle."""
    return Unavailable("too many connections are open; try again", _RETRY_AFTER_S)


def no_memory() -> Unavailable:
    """There was no memory for a body, for longer than anybody waits."""
    return Unavailable(
        "the server holds as many requests and answers as it has memory for "
        "(max_buffered_bytes); try again",
        _RETRY_AFTER_S,
    )


def no_memory_for_answer() -> Unavailable:
    """There is no memory for an answer, whose request has been run: so it does not say "again"."""
    return Unavailable("the server holds as many answers as it has memory for (max_buffered_bytes)")


def too_slow(part: str) -> InvalidRequest:
    """The head or the body of a request did not arrive in time."""
    return InvalidRequest(f"the request's {part} took too long to arrive", Code.RECEIVE_TIMEOUT)


def body_too_large(size: int, most: int) -> InvalidRequest:
    """The body is said to have `size` bytes, and at most `most` are taken."""
    return InvalidRequest(f"the body has {size} bytes; at most {most} are taken", Code.TOO_LARGE)
