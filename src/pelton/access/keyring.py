"""All keys at one moment, and who a request comes from.

A ring is never changed: when keys are created or revoked, a new one takes its place in one step.
So a request sees all of a change or nothing.

Whoever is refused is told the same, whether the key is unknown, wrong, over, revoked, badly
written or missing: the difference would help only those who try keys out. The door that tells
`UNAUTHENTICATED` adds the header of `CHALLENGE` to it (RFC 9110, 11.6.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pelton.access.caller import Caller, effective
from pelton.access.keys import Rate, is_secret_of, is_usable, read_key
from pelton.errors import AccessDenied, Code
from pelton.records import Key

CHALLENGE = ("WWW-Authenticate", 'Bearer realm="pelton"')
"""Name and value of the header that has to come with every 401."""

_NO_DIGEST = bytes(32)  # no secret has it, and to compare with it takes as long as with any other

_SCHEME = "bearer "


def unauthenticated() -> AccessDenied:
    """The one answer to everybody whose key is not good, or who sent none."""
    return AccessDenied(
        "this needs a valid API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
        Code.UNAUTHENTICATED,
    )


class _Kept(NamedTuple):
    digest: bytes
    caller: Caller


class Keyring:
    """The keys that are good, by their ids.

    Attributes:
        in_use: whether callers need a key. That is so as soon as there is any, even if it is
            revoked or over: to revoke the last key must not open the server.
    """

    def __init__(self, keys: Iterable[Key] = (), required: bool = False) -> None:
        """Take in the keys.

        Args:
            keys: all that are kept, the revoked ones too.
            required: whether callers need one even if there is none.
        """
        every = list(keys)
        self.in_use = required or bool(every)
        self._every = every
        self._kept = {
            key.id: _Kept(key.digest, _caller(key)) for key in every if key.revoked_s is None
        }

    def has_usable(self, now_s: float) -> bool:
        """Tell whether anybody at all could be let in at `now_s` seconds since 1970."""
        return any(is_usable(key, now_s) for key in self._every)

    def identify(self, headers: Mapping[str, str], now_s: float) -> Caller:
        """Tell who sends a request by the key in its headers.

        Args:
            headers: lower-case name -> value; one that came twice holds both, with a comma.
            now_s: seconds since 1970.

        Raises:
            AccessDenied: `UNAUTHENTICATED`: there is no key, or it is not good.
        """
        text = presented(headers)
        sent = None if text is None else read_key(text)
        if sent is None:
            raise unauthenticated()
        kept = self._kept.get(sent.id)
        right = is_secret_of(sent.digest, _NO_DIGEST if kept is None else kept.digest)
        if kept is None or not right or now_s >= kept.caller.ends_s:
            raise unauthenticated()
        return kept.caller

    def caller_of(self, key_id: str, now_s: float) -> Caller | None:
        """Return who has a key, without its secret; None if the key is no longer good.

        Args:
            key_id: of the key.
            now_s: seconds since 1970.
        """
        kept = self._kept.get(key_id)
        return None if kept is None or now_s >= kept.caller.ends_s else kept.caller


def presented(headers: Mapping[str, str]) -> str | None:
    """Return what the headers hold as a key; None if they hold none.

    Args:
        headers: lower-case name -> value.

    Raises:
        AccessDenied: `UNAUTHENTICATED`: `Authorization` is not for a key, or there are two keys.
    """
    named = headers.get("x-api-key")
    authorization = headers.get("authorization")
    if authorization is None:
        return named
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        raise unauthenticated()
    bearer = authorization[len(_SCHEME) :].strip(" ")
    # Both are the caller's own, so how long it takes to compare them tells nobody anything.
    if named is not None and named != bearer:
        raise unauthenticated()
    return bearer


def _caller(key: Key) -> Caller:
    return Caller(
        key_id=key.id,
        scopes=effective(key.scopes),
        tenant=key.id,
        rate=None if key.requests_per_s is None else Rate(key.requests_per_s, key.burst),
        counted_as=key.id,
        ends_s=math.inf if key.expires_s is None else key.expires_s,
    )
