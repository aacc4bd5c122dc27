"""An API key: how it is made, written, read and compared.

    pelton_k3v9a0x7q2mb_8Zt0...  (43 letters and digits)
           '-- id ----' '-- secret --'

The id is public: by it a key is found, listed and revoked. The secret is 43 letters and digits
drawn at random, a little over 256 bits (62^43 > 2^256), so that what is kept of it can be a plain
SHA-256: there is nothing to guess that a slow hash would have to protect. A key is 63 characters
long, holds nothing that a URL, a shell or a header would treat in its own way, and has an
underscore at two places only, so it splits in one way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import math
import re
import secrets
import string
from collections.abc import Iterable
from typing import NamedTuple

from pelton.errors import InvalidRequest
from pelton.records import Key, Scope

PREFIX = "pelton_"
ID_CHARACTERS = 12
SECRET_CHARACTERS = 43
KEY_CHARACTERS = len(PREFIX) + ID_CHARACTERS + 1 + SECRET_CHARACTERS
"""Length of every key: 63."""

MAX_LABEL_CHARACTERS = 100

MIN_PER_S, MAX_PER_S = 1e-6, 1e6
"""Bounds of a rate: about three a month, and more than anybody could send."""

_ID_ALPHABET = string.ascii_lowercase + string.digits
_SECRET_ALPHABET = string.ascii_letters + string.digits
_KEY = re.compile(
    rf"{PREFIX}([a-z0-9]{{{ID_CHARACTERS}}})_([A-Za-z0-9]{{{SECRET_CHARACTERS}}})", re.ASCII
)

_BEGUN_KEY = re.compile(rf"{PREFIX}[a-z0-9]{{{ID_CHARACTERS}}}_[A-Za-z0-9]", re.ASCII)


class NewKey(NamedTuple):
    """A key that has just been made.

    Attributes:
        text: what its owner is shown, once.
        key: what is kept of it.
    """

    text: str
    key: Key


class Presented(NamedTuple):
    """A key as a caller sent it; well formed, and nothing more is known of it.

    Attributes:
        id: which key it says it is.
        digest: SHA-256 of the secret that came with it, 32 bytes.
    """

    id: str
    digest: bytes


class Rate(NamedTuple):
    """How often somebody may ask.

    Attributes:
        per_s: requests per second, on average; positive.
        burst: how many of them may come at once; at least 1.
    """

    per_s: float
    burst: int


def make_key(
    label: str,
    scopes: Iterable[Scope],
    now_s: float,
    *,
    expires_s: float | None = None,
    requests_per_s: float | None = None,
    burst: int | None = None,
) -> NewKey:
    """Make a key.

    Args:
        label: what people call it.
        scopes: what it may be used for.
        now_s: seconds since 1970.
        expires_s: when it ends, likewise; None for never.
        requests_per_s: how many requests it may send per second to each route; None for any number.
        burst: how many may come at once; None for those of one second.

    Raises:
        InvalidRequest: one of these makes no sense.
    """
    scopes = frozenset(scopes)
    if not scopes:
        raise InvalidRequest(f"a key needs a scope: {', '.join(Scope)}")
    if not label.isprintable() or not 0 < len(label) <= MAX_LABEL_CHARACTERS:
        raise InvalidRequest(
            f"a key needs a label of 1 to {MAX_LABEL_CHARACTERS} printable characters"
        )
    if _BEGUN_KEY.search(label):
        raise InvalidRequest("this label has a key in it, and labels are read by others")
    if expires_s is not None and not now_s < expires_s < math.inf:
        raise InvalidRequest("a key has to end later than now; leave the end out for never")
    if requests_per_s is None and burst is not None:
        raise InvalidRequest(
            "a burst says nothing without a rate; say requests_per_s (--requests-per-s) too"
        )
    rate = None if requests_per_s is None else checked_rate(requests_per_s, burst)
    secret = _random(_SECRET_ALPHABET, SECRET_CHARACTERS)
    key = Key(
        id=_random(_ID_ALPHABET, ID_CHARACTERS),
        digest=_digest(secret),
        label=label,
        scopes=scopes,
        created_s=now_s,
        expires_s=expires_s,
        requests_per_s=requests_per_s,
        burst=1 if rate is None else rate.burst,
    )
    return NewKey(f"{PREFIX}{key.id}_{secret}", key)


def checked_rate(per_s: float, burst: int | None = None) -> Rate:
    """Return a rate.

    Args:
        per_s: requests per second, on average.
        burst: how many may come at once; None for those of one second, and at least one.

    Raises:
        InvalidRequest: one of them is out of bounds.
    """
    if not MIN_PER_S <= per_s <= MAX_PER_S:
        raise InvalidRequest(
            f"requests per second have to be between {MIN_PER_S:f} and {MAX_PER_S:.0f}, "
            f"not {per_s:g}"
        )
    at_once = max(1, math.ceil(per_s)) if burst is None else burst
    if not 1 <= at_once <= MAX_PER_S:
        raise InvalidRequest(f"1 to {MAX_PER_S:.0f} requests may come at once, not {at_once}")
    return Rate(per_s, at_once)


def read_key(text: str) -> Presented | None:
    """Read a key as it was sent; None if this is no key."""
    found = _KEY.fullmatch(text)
    return Presented(found[1], _digest(found[2])) if found else None


def is_secret_of(digest: bytes, kept: bytes) -> bool:
    """Tell whether a secret is the right one, in a time that does not tell how nearly it was.

    Args:
        digest: SHA-256 of the secret that was sent.
        kept: SHA-256 of the right one.
    """
    return hmac.compare_digest(digest, kept)


def is_usable(key: Key, now_s: float) -> bool:
    """Tell whether a key is neither revoked nor over at `now_s` seconds since 1970."""
    return key.revoked_s is None and (key.expires_s is None or now_s < key.expires_s)


def revoked(key: Key, now_s: float) -> Key:
    """Return the key as revoked; one that was revoked before keeps the time of that."""
    return key if key.revoked_s is not None else dataclasses.replace(key, revoked_s=now_s)


def _random(alphabet: str, characters: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(characters))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()
