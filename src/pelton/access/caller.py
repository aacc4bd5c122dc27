"""Who asks, as far as access is concerned."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pelton.access.keys import Rate
from pelton.records import Scope

BY_ADMIN = frozenset(Scope) - {Scope.PICKLE_UNSAFE}
"""What a key with the scope `admin` may do: to trust what was pickled is a risk of its own."""

WITHOUT_KEYS = BY_ADMIN - {Scope.ADMIN}
"""What anybody may do where no keys are used.

Not to make keys: whoever came by for a minute would stay, and lock the others out.
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what for.

    Attributes:
        key_id: id of the key; empty where no keys are used.
        scopes: what it may do; what `admin` includes is listed one by one.
        tenant: whose results must not be shown to others; the key's id.
        rate: how often it may ask; None for as often as it likes.
        counted_as: under which name its requests are counted; the key's id, or an address.
        ends_s: from when on the key is no longer good, in seconds since 1970.
    """

    key_id: str
    scopes: frozenset[Scope]
    tenant: str
    rate: Rate | None = None
    counted_as: str = ""
    ends_s: float = math.inf


ANONYMOUS = Caller("", WITHOUT_KEYS, "")
"""Anybody, where no keys are used."""

NOBODY = Caller("", frozenset(), "")
"""Who asks what everybody may know; nobody looked who it is."""


def effective(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Return all scopes that these include."""
    return scopes | BY_ADMIN if Scope.ADMIN in scopes else scopes
