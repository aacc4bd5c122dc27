"""Whom a split assigns: a user, a robot, a session by their key, or else the single request.

The key is, where the policy names a field, that parameter or input and nothing else; otherwise
what the caller says in the header `X-Pelton-Key`, or in the parameter `pelton_key`. An experiment
must not mix two kinds of unit, so a named field is not replaced by the header.

Without a key each request is a unit, told by its id. Ids that the server makes are a number that
is drawn at its start and a count. That they follow each other does no harm: hashes of neighbours
have nothing in common. A caller that sends ids of its own gets the same arm when it tries again.
"""

from __future__ import annotations

import numpy as np

from pelton.errors import InvalidRequest
from pelton.messages import InferRequest, Value

HEADER = "x-pelton-key"
"""The header by which callers say whom a request is for, in lower case."""

PARAMETER = "pelton_key"
"""The parameter of the protocol that says the same."""

MAX_KEY_CHARS = 256
"""Longest key; it is kept with every exposure."""


def unit_of(request: InferRequest, key: str, sticky: str | None) -> tuple[str, bool]:
    """Return whom a request is for, and whether that is a caller's key.

    Args:
        request: its parameters, inputs and `log_id` are looked at.
        key: value of the header; empty where it was not sent.
        sticky: the field that tells the key instead, or None.

    Returns:
        The unit, and True for a key, or False for the request's id, which may be empty.

    Raises:
        InvalidRequest: the header or the parameter holds something that is no key.
    """
    found = _told_key(request, key) if sticky is None else _field(request, sticky)
    return (found, True) if found else (request.log_id, False)


def _told_key(request: InferRequest, key: str) -> str:
    told: Value = key or request.parameters.get(PARAMETER, "")
    text = str(told) if type(told) is int else told
    if text == "" or _is_key(text):
        return str(text)
    name = "the header X-Pelton-Key" if key else f"the parameter {PARAMETER!r}"
    raise InvalidRequest(
        f"{name} is {told!r:.60}; a key has 1 to {MAX_KEY_CHARS} printable characters"
    )


def _field(request: InferRequest, name: str) -> str:
    """Return the text of a field that holds one text or whole number, else nothing.

    Rows for several users cannot go to several versions, so they are no fault of their sender.
    """
    value: Value = request.parameters.get(name)
    if value is None:
        value = request.inputs.get(name)
    if isinstance(value, np.ndarray | np.generic):
        value = value.item() if value.size == 1 else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")  # what is no text is no key
    text = str(value) if type(value) is int else value
    return str(text) if _is_key(text) else ""


def _is_key(text: Value) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_KEY_CHARS and text.isprintable()
