"""The dashboard's sessions: a key is sent once, and a cookie stands for it afterwards.

The cookie holds a random id of 256 bits; what is kept of it is its SHA-256, in memory only, so a
restart ends all sessions. The browser sends the cookie to pages of this server alone (`SameSite=
Strict`) and shows it to no script (`HttpOnly`). With every request that changes something comes a
second value in a header (`CSRF_HEADER`), which is an HMAC of the id and so needs not be kept.

A session is no better than its key: it ends with it, and has its scopes at every moment.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from pelton.errors import AccessDenied, InvalidRequest

COOKIE = "pelton_session"
CSRF_HEADER = "x-csrf-token"

SESSION_S = 12 * 3600.0
MAX_SESSIONS_PER_KEY = 16

_ID_BYTES = 32


class OpenedSession(NamedTuple):
    """What the browser is given.

    Attributes:
        cookie: value of `Set-Cookie`.
        csrf: what has to come as `X-CSRF-Token` with every request but GET and HEAD.
        ends_s: when the session ends at the latest, in seconds since 1970.
    """

    cookie: str
    csrf: str
    ends_s: float


class Session(NamedTuple):
    """A session that a cookie stands for.

    Attributes:
        key_id: the key that it was begun with.
        csrf: what has to come in the header.
        ends_s: when it ends, in seconds since 1970.
    """

    key_id: str
    csrf: str
    ends_s: float


class _Kept(NamedTuple):
    key_id: str
    ends_s: float


class Sessions:
    """The open sessions of one server; for use in one thread."""

    def __init__(self, tls: bool, lasts_s: float = SESSION_S) -> None:
        """Begin without any.

        Args:
            tls: whether browsers reach the server by TLS; the cookie then goes no other way.
            lasts_s: how long a session lasts.
        """
        self._tls = tls
        self._lasts_s = lasts_s
        self._name = f"__Host-{COOKIE}" if tls else COOKIE
        self._secret = secrets.token_bytes(_ID_BYTES)
        self._kept: dict[bytes, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def open(self, key_id: str, now_s: float) -> OpenedSession:
        """Begin a session; the oldest one of a key goes when it has too many.

        Args:
            key_id: of the key that came in a header.
            now_s: seconds since 1970.

        Raises:
            InvalidRequest: there was no key, as no keys are used.
        """
        if not key_id:
            raise InvalidRequest("no keys are used here, so nobody needs a session")
        self._forget_ended(now_s)
        own = [name for name, kept in self._kept.items() if kept.key_id == key_id]
        if len(own) >= MAX_SESSIONS_PER_KEY:
            del self._kept[own[0]]
        session_id = secrets.token_urlsafe(_ID_BYTES)
        ends_s = now_s + self._lasts_s
        self._kept[_digest(session_id)] = _Kept(key_id, ends_s)
        return OpenedSession(
            self._cookie(session_id, int(self._lasts_s)), self._csrf(session_id), ends_s
        )

    def find(self, headers: Mapping[str, str], now_s: float) -> Session | None:
        """Return the session that a request's cookie stands for; None if there is none.

        Args:
            headers: lower-case name -> value.
            now_s: seconds since 1970.
        """
        session_id = self._id_in(headers)
        kept = None if session_id is None else self._kept.get(_digest(session_id))
        if session_id is None or kept is None or now_s >= kept.ends_s:
            return None
        return Session(kept.key_id, self._csrf(session_id), kept.ends_s)

    def close(self, headers: Mapping[str, str]) -> str:
        """End the session that a request's cookie stands for, if there is one.

        Args:
            headers: lower-case name -> value.

        Returns:
            A value of `Set-Cookie` with which the browser forgets it.
        """
        session_id = self._id_in(headers)
        if session_id is not None:
            self._kept.pop(_digest(session_id), None)
        return self._cookie("", 0)

    def _id_in(self, headers: Mapping[str, str]) -> str | None:
        """Return the id in the cookie; None where there is none, or more than one."""
        # Two Cookie headers are joined by a comma, which no value of ours holds (RFC 6265, 4.1.1).
        pairs = headers.get("cookie", "").replace(",", ";").split(";")
        sent = [
            value
            for name, _, value in (pair.strip().partition("=") for pair in pairs)
            if name == self._name
        ]
        return sent[0] if len(sent) == 1 else None

    def _cookie(self, value: str, max_age_s: int) -> str:
        secure = "; Secure" if self._tls else ""
        return (
            f"{self._name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
        )

    def _csrf(self, session_id: str) -> str:
        return hmac.new(self._secret, session_id.encode(), hashlib.sha256).hexdigest()

    def _forget_ended(self, now_s: float) -> None:
        for name in [name for name, kept in self._kept.items() if now_s >= kept.ends_s]:
            del self._kept[name]


def check_csrf(session: Session, headers: Mapping[str, str]) -> None:
    """Let a request pass that knows what only our own pages are told.

    Args:
        session: the one that its cookie stands for.
        headers: lower-case name -> value.

    Raises:
        AccessDenied: the header is missing or wrong.
    """
    sent = headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(sent.encode("utf-8", "replace"), session.csrf.encode()):
        raise AccessDenied(
            "a request of a session needs the header X-CSRF-Token with the token that came "
            "with the session; GET /v2/session tells it"
        )


def _digest(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode("utf-8", "replace")).digest()
