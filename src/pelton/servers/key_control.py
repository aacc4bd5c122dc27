"""Keys, listed, made and revoked: by the command line on the server's machine, or by a door.

A key that is made or revoked goes to the store first. Every server that uses the store notices it
there, this one too, and puts a new ring into its gate.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pelton.access.keys import ID_CHARACTERS, NewKey, is_usable, make_key, read_key
from pelton.clock import Clock
from pelton.errors import AccessDenied, InvalidRequest
from pelton.records import Change, Key, Scope

LOCAL = "local"
"""Who changes something by the command line on the server's own machine."""

_ID = re.compile(rf"[a-z0-9]{{{ID_CHARACTERS}}}", re.ASCII)


class KeyStore(Protocol):
    """Keeps keys; blocks."""

    def add(self, key: Key, change: Change) -> None: ...  # noqa: D102
    def revoke(self, id: str, at_s: float, change: Change) -> Key: ...  # noqa: A002, D102
    def list(self) -> list[Key]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class KeyWish:
    """What somebody wants a key to be.

    Attributes:
        label: what people call it.
        scopes: what it may be used for.
        expires_s: when it ends, in seconds since 1970; None for never.
        requests_per_s: how many requests it may send per second to each route; None for any number.
        burst: how many of them may come at once; None for those of one second.
    """

    label: str
    scopes: frozenset[Scope]
    expires_s: float | None = None
    requests_per_s: float | None = None
    burst: int | None = None


class Keys:
    """Changes keys where they are kept, and notes who did; blocks."""

    def __init__(self, store: KeyStore, clock: Clock = time.time) -> None:
        """Take over a store.

        Args:
            store: keeps the keys.
            clock: seconds since 1970.
        """
        self._store = store
        self._clock = clock

    def list(self) -> list[Key]:
        """Return all keys that were ever made, the oldest first.

        Raises:
            Unavailable: they cannot be read now.
        """
        return self._store.list()

    def create(self, wish: KeyWish, actor: str) -> NewKey:
        """Make a key; its text is nowhere else from then on.

        Args:
            wish: what it shall be.
            actor: id of the key of whoever makes it, or `LOCAL`.

        Raises:
            InvalidRequest: what is wished makes no sense.
            Unavailable: it cannot be kept now.
        """
        now_s = self._clock()
        new = make_key(
            wish.label,
            wish.scopes,
            now_s,
            expires_s=wish.expires_s,
            requests_per_s=wish.requests_per_s,
            burst=wish.burst,
        )
        change = Change(now_s, actor, "keys.create", new.key.id, None, as_plain(new.key))
        self._store.add(new.key, change)
        return new

    def revoke(self, key: str, actor: str) -> Key:
        """Revoke a key for good.

        Args:
            key: its id; or the whole key, which whoever found it may have at hand.
            actor: as in `create`.

        Raises:
            InvalidRequest: this is no id of a key.
            NotFound: there is no such key.
            Conflict: it is revoked already.
            Unavailable: it cannot be revoked now.
        """
        found = read_key(key)
        name = key if found is None else found.id
        if _ID.fullmatch(name) is None:
            # It may be a piece of a key, so it is not quoted.
            raise InvalidRequest(
                f"this is no id of a key: those are {ID_CHARACTERS} small letters and digits"
            )
        now_s = self._clock()
        before, after = {"revoked_s": None}, {"revoked_s": now_s}
        change = Change(now_s, actor, "keys.revoke", name, before, after)
        return self._store.revoke(name, now_s, change)


class KeyControl:
    """The keys as a door asks for them: without blocking, and in force when it is answered."""

    def __init__(self, keys: Keys, refresh: Callable[[], Awaitable[None]]) -> None:
        """Take over the keys.

        Args:
            keys: changes them where they are kept.
            refresh: returns when what is kept is in force in this server.
        """
        self._keys = keys
        self._refresh = refresh

    async def list(self) -> list[Key]:
        """As `Keys.list`."""
        return await asyncio.to_thread(self._keys.list)

    async def create(self, wish: KeyWish, actor: str, scopes: frozenset[Scope]) -> NewKey:
        """As `Keys.create`, but nobody can give what they do not have.

        Args:
            wish: what the key shall be.
            actor: id of the key of whoever makes it.
            scopes: what that may do.

        Raises:
            AccessDenied: the key would have a scope that its maker has not.
        """
        beyond = wish.scopes - scopes
        if beyond:
            raise AccessDenied(
                f"your key cannot give the scope {', '.join(sorted(beyond))}, which it does not "
                "have; `pelton keys create` on the server's machine can"
            )
        new = await asyncio.to_thread(self._keys.create, wish, actor)
        await self._refresh()
        return new

    async def revoke(self, key: str, actor: str) -> Key:
        """As `Keys.revoke`."""
        revoked = await asyncio.to_thread(self._keys.revoke, key, actor)
        await self._refresh()
        return revoked


def as_plain(key: Key) -> Mapping[str, Any]:
    """Return what may be told of a key, as plain values: all but the digest of its secret."""
    return {
        "id": key.id,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "created_s": key.created_s,
        "expires_s": key.expires_s,
        "revoked_s": key.revoked_s,
        "requests_per_s": key.requests_per_s,
        "burst": key.burst if key.requests_per_s is not None else None,
    }


def state_of(key: Key, now_s: float) -> str:
    """Say in a word whether a key is good at `now_s` seconds since 1970."""
    if key.revoked_s is not None:
        return "revoked"
    return "good" if is_usable(key, now_s) else "over"


def scopes_of(names: list[str]) -> frozenset[Scope]:
    """Return the scopes with these names.

    Raises:
        InvalidRequest: there is none of this name.
    """
    known = {str(scope): scope for scope in Scope}
    for name in names:
        if name not in known:
            raise InvalidRequest(f"{name!r:.40} is no scope; there are: {', '.join(known)}")
    return frozenset(known[name] for name in names)
