"""The one gate in front of every route of every door.

    route -> what does it need -> who asks -> by which name, from which page -> may it -> how often

It never waits and holds no lock, so that it costs an inference request a few microseconds. What it
found of a request holds for the next one with the same head on the same connection, until keys
change or end; `Pass` keeps that, so only the count is left to do:

    passed = gate.look("POST", "/infer", headers, peer)      # once for a head
    caller = gate.use(passed)                                # for each request
    ...
    if not gate.holds(passed): passed = gate.look(...)

A door that does not keep anything calls `admit`, which is `look` and `use`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import NamedTuple

from pelton.access.caller import ANONYMOUS, NOBODY, WITHOUT_KEYS, Caller
from pelton.access.client_address import ClientAddresses
from pelton.access.cross_site import SAFE_METHODS, check_page
from pelton.access.hosts import Hosts
from pelton.access.keyring import Keyring, unauthenticated
from pelton.access.keys import Rate
from pelton.access.rate_limit import RateLimiter
from pelton.access.scopes import Need, Open, check_scope, need_of
from pelton.access.sessions import OpenedSession, Sessions, check_csrf
from pelton.clock import Clock

Headers = Mapping[str, str]


class Pass(NamedTuple):
    """What the gate found of a request.

    Attributes:
        caller: who asks.
        route: template of the route that it may use.
        keyring: the keys by which that was found; None where none were looked at.
        ends_s: from when on it has to be looked at anew, in seconds since 1970.
    """

    caller: Caller
    route: str
    keyring: Keyring | None
    ends_s: float


class Gate:
    """Lets a request through, or raises why not; for use in one thread.

    Attributes:
        keyring: the keys; to change them, put another ring here.
        sessions: of the dashboard.
    """

    def __init__(
        self,
        keyring: Keyring,
        hosts: Hosts,
        sessions: Sessions,
        limiter: RateLimiter,
        addresses: ClientAddresses,
        anonymous_rate: Rate | None = None,
        clock: Clock = time.time,
    ) -> None:
        """Put the gate together.

        Args:
            keyring: the keys.
            hosts: names by which the server may be called.
            sessions: of the dashboard.
            limiter: counts requests.
            addresses: tell whom to count who has no key.
            anonymous_rate: how often each of those may ask; None for as often as it likes.
            clock: seconds since 1970.
        """
        self.keyring = keyring
        self.sessions = sessions
        self._hosts = hosts
        self._limiter = limiter
        self._addresses = addresses
        self._anonymous_rate = anonymous_rate
        self._clock = clock

    def admit(self, method: str, route: str, headers: Headers, peer: str) -> Caller:
        """Let one request through, and count it.

        Args:
            method: such as `POST`.
            route: template of the route that was matched, such as `/v2/models/{model}/infer`.
            headers: lower-case name -> value; one that came twice holds both, with a comma.
            peer: address at the other end; empty for the Unix socket.

        Returns:
            Who asks.

        Raises:
            AccessDenied: `UNAUTHENTICATED`: there is no key or it is not good; `FORBIDDEN`: the
                key lacks the scope, or the Host or the page is not ours.
            Unavailable: `RATE_LIMITED`: the caller asks too often.
        """
        return self.use(self.look(method, route, headers, peer))

    def look(self, method: str, route: str, headers: Headers, peer: str) -> Pass:
        """Find out who asks and whether it may, without counting; as `admit` in all else."""
        need = need_of(method, route)
        if need is Open.PUBLIC:
            return Pass(NOBODY, route, None, math.inf)
        ring = self.keyring
        if not ring.in_use:
            return self._without_keys(method, route, headers, peer, need)
        now_s = self._clock()
        if "authorization" in headers or "x-api-key" in headers:
            caller = ring.identify(headers, now_s)
            check_scope(caller, need, method, route)
            return Pass(caller, route, ring, caller.ends_s)
        caller = self._by_cookie(method, headers, peer, now_s)
        check_scope(caller, need, method, route)
        return Pass(caller, route, ring, -math.inf)

    def holds(self, passed: Pass) -> bool:
        """Tell whether a pass still holds for the same head on the same connection.

        That of a session never does: a session can end at any moment.
        """
        ring = passed.keyring
        return ring is None or (ring is self.keyring and self._clock() < passed.ends_s)

    def use(self, passed: Pass) -> Caller:
        """Count a request that `look` let through.

        Raises:
            Unavailable: `RATE_LIMITED`.
        """
        caller = passed.caller
        if caller.rate is not None:
            self._limiter.take(caller.counted_as, passed.route, caller.rate)
        return caller

    def open_session(self, headers: Headers) -> OpenedSession:
        """Begin a session of the dashboard, with a key in a header and nothing less.

        A cookie will not do: a session could then be drawn out for ever.

        Raises:
            AccessDenied: `UNAUTHENTICATED`: there is no key or it is not good.
            InvalidRequest: no keys are used.
        """
        now_s = self._clock()
        key_id = self.keyring.identify(headers, now_s).key_id if self.keyring.in_use else ""
        return self.sessions.open(key_id, now_s)

    def _without_keys(
        self, method: str, route: str, headers: Headers, peer: str, need: Need
    ) -> Pass:
        """Anybody may ask; but a browser shall not do so for a page of strangers."""
        self._check_browser(method, headers, peer)
        caller = ANONYMOUS
        if self._anonymous_rate is not None:
            counted_as = self._addresses.counted_as(peer, headers.get("x-forwarded-for"))
            caller = Caller("", WITHOUT_KEYS, "", self._anonymous_rate, counted_as)
        check_scope(caller, need, method, route)
        return Pass(caller, route, self.keyring, math.inf)

    def _by_cookie(self, method: str, headers: Headers, peer: str, now_s: float) -> Caller:
        session = self.sessions.find(headers, now_s)
        caller = None if session is None else self.keyring.caller_of(session.key_id, now_s)
        if session is None or caller is None:
            raise unauthenticated()
        self._check_browser(method, headers, peer)
        if method not in SAFE_METHODS:
            check_csrf(session, headers)
        return caller

    def _check_browser(self, method: str, headers: Headers, peer: str) -> None:
        """Refuse what a browser sends for strangers.

        That is for requests that come in without a key of their own: a page that has a key in its
        hands needs no browser to use it. Browsers do not speak to Unix sockets.
        """
        if peer:
            self._hosts.check(headers.get("host"))
        check_page(method, headers)
