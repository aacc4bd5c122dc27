"""The gate in front of any Python object: nothing of a body is decoded before it says yes.

It asks for all of these, in this order:

1. the settings file switches the mode on                               else 403
2. the caller's API key has the scope `pickle:unsafe`                   else 403
3. a signature in the one form that there is, by a key of this caller   else 401
4. signed within the last minute                                        else 401
5. over this very method, path, model and body                          else 401
6. and never used before                                                else 401

A stranger is not told which of the last four it was; the log is.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

from pelton.errors import AccessDenied, Code, Unavailable
from pelton.records import Scope
from pelton.trusted.keys_file import KeysFile
from pelton.trusted.nonces import CAPACITY, Nonces, Use
from pelton.trusted.signing import Signature, SignedFields, digest_of

logger = logging.getLogger("pelton.trusted")

WINDOW_S = 60.0
"""How long a signature is good for."""

AHEAD_S = 5.0
"""How far a client's clock may be ahead of the server's."""

REFUSED = (
    "the signature of this request is missing, wrong, too old, or was used before; sign each try "
    "anew, over what is sent, and see that the clock is right"
)


class Caller(Protocol):
    """Who sends a request, as its API key has told already."""

    @property
    def key_id(self) -> str:
        """Id of the API key; empty for none."""

    @property
    def scopes(self) -> frozenset[Scope]:
        """What it may do."""


class TrustedGate:
    """Admits signed requests, each once; threads may share it."""

    def __init__(
        self,
        keys: KeysFile | None,
        started_s: float,
        wall_clock: Callable[[], float] = time.time,
        capacity: int = CAPACITY,
    ) -> None:
        """Make the gate.

        Args:
            keys: the signing keys; None where the settings file does not switch the mode on.
            started_s: when the server's process began, in seconds since 1970. What was used
                before that is not known, so nothing that was signed by then is taken.
            wall_clock: seconds since 1970, UTC.
            capacity: how many signatures are remembered within the window.
        """
        self._keys = keys
        self._wall_clock = wall_clock
        self._nonces = Nonces(started_s + AHEAD_S, capacity)

    def may_send(self, caller: Caller) -> None:
        """Check all that can be checked without the request's body.

        Args:
            caller: who sends it.

        Raises:
            AccessDenied: the mode is off, or the key may not do this; both `FORBIDDEN`.
        """
        if self._keys is None:
            raise AccessDenied(
                "signed objects are not taken: this server's settings file does not allow them"
            )
        if not caller.key_id or Scope.PICKLE_UNSAFE not in caller.scopes:
            raise AccessDenied(
                f"signed objects need an API key with the scope {Scope.PICKLE_UNSAFE}"
                + (", which this key does not have" if caller.key_id else "")
            )

    def admit(
        self,
        caller: Caller,
        signature: str | None,
        method: str,
        path: str,
        model: str,
        body: bytes | memoryview,
        log_id: str = "",
    ) -> str:
        """Check a request and use its signature up. It takes as long as SHA-256 of the body.

        Args:
            caller: as for `may_send`.
            signature: what the header `X-Pelton-Signature` says, or None.
            method: as it came.
            path: the target as it stood in the request line, query included.
            model: name of the model that will be given the object.
            body: as it came, before any decompression.
            log_id: the request's name in the log.

        Returns:
            The id of the key that signed.

        Raises:
            AccessDenied: `FORBIDDEN` as `may_send`; `UNAUTHENTICATED` for a signature that does
                not hold.
            Unavailable: the signature holds, but it could not be told whether it was used before.
        """
        self.may_send(caller)
        assert self._keys is not None
        found = None if signature is None else Signature.parse(signature)
        if found is None:
            _refuse(log_id, "there is none" if signature is None else "it has no known form")
        key = self._keys.find(found.key)
        if key is None or key.client != caller.key_id:
            _refuse(log_id, f"API key {caller.key_id!r:.80} has no signing key {found.key!r}")
        now_s = self._wall_clock()
        if not now_s - WINDOW_S <= found.time_s <= now_s + AHEAD_S:
            _refuse(log_id, f"its time is {found.time_s - now_s:+.1f} s from now")
        digest = digest_of([body])
        fields = SignedFields(
            found.key, method, path, model, found.time_s, found.nonce, digest
        ).to_bytes()
        if not key.check(fields, found.value):
            _refuse(log_id, f"it is not that of key {key.id!r} over this request")
        self._use(found, now_s, log_id)
        return key.id

    def _use(self, found: Signature, now_s: float, log_id: str) -> None:
        use = self._nonces.use(found.key, found.nonce, found.time_s, now_s - WINDOW_S)
        if use is Use.FULL:
            logger.error("request %s: more signed requests than can be remembered", log_id)
            raise Unavailable("too many signed requests within a minute; try again", WINDOW_S)
        floor_s = self._nonces.floor_s
        if use is Use.TOO_OLD and math.floor(now_s) <= floor_s:
            # Nobody could sign anything better in this second: the server has just started, or
            # its clock was put back.
            raise Unavailable(
                "signed requests are not taken yet: it is not known which were used before; "
                "sign it again a little later",
                math.ceil(floor_s - now_s) + 1.0,
            )
        if use is not Use.FRESH:
            _refuse(log_id, f"it {use.value}")


def _refuse(log_id: str, why: str) -> NoReturn:
    logger.warning("request %s: its signature is refused: %s", log_id, why)
    raise AccessDenied(REFUSED, Code.UNAUTHENTICATED)
