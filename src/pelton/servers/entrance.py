"""Lets the requests of one connection in, by their heads alone, before any body is received.

A client on a kept connection sends the same head each time, and `HeadReader` gives the same record
for it. So what was found of a head is kept, and the next request with it costs a comparison or
two, unless keys have changed or somebody counts.

The route is found here, with the reading of the address that uvicorn has. The control application
reads it again, and `AdmittedOnly` lets nothing run but the route that was found here.
"""

from __future__ import annotations

import asyncio
import math
import urllib.parse

import httptools

from pelton.access.caller import NOBODY
from pelton.access.gate import Pass
from pelton.access.keyring import Keyring
from pelton.access.scopes import find_route
from pelton.servers.access import Access
from pelton.servers.http_head import RequestHead
from pelton.servers.inference_call import SIGNATURE, InferenceCall
from pelton.servers.origin import Origin, peer_address

_NOWHERE = Pass(NOBODY, "", None, math.inf)
"""For what is no route: the application says so, and runs nothing."""


class Entrance:
    """The way in of one connection.

    Attributes:
        head: of the last request whose sender was let in, or told to come later; None for none.
    """

    __slots__ = (
        "_caller",
        "_gate",
        "_keyring",
        "_pass",
        "_peer",
        "_route",
        "_same_user",
        "_trusted",
        "head",
    )

    def __init__(self, access: Access, transport: asyncio.BaseTransport, same_user: bool) -> None:
        """Take in who is at the other end.

        Args:
            access: decides.
            transport: the connection's.
            same_user: whether a process of the server's own user is at the other end.
        """
        self._gate = access.gate
        self._trusted = access.trusted
        self._peer = peer_address(transport)
        self._same_user = same_user
        self.head: RequestHead | None = None
        self._pass = _NOWHERE  # what was found of it
        self._caller = NOBODY
        self._route = ""
        # With these keys, what was found of the head holds without asking or counting.
        self._keyring: Keyring | None = None

    def admit(self, head: RequestHead, arrived_s: float) -> Origin:
        """Let a request in, and count it.

        Args:
            head: its head.
            arrived_s: when it came.

        Raises:
            AccessDenied: who sends it is not known, or may not, or may not send signed objects.
            Unavailable: who sends it does so too often.
        """
        if head is not self.head or self._gate.keyring is not self._keyring:
            self._look(head)
        return Origin(arrived_s, self._same_user, self._peer, self._caller, self._route)

    def _look(self, head: RequestHead) -> None:
        gate = self._gate
        self._keyring = None  # whatever is raised below, nothing of before holds for this head
        if head is not self.head or not gate.holds(self._pass):
            self.head = None
            route = _route_of(head)
            self._pass = (
                _NOWHERE
                if route is None
                else gate.look(head.method, route, head.headers, self._peer)
            )
            self.head = head
        passed = self._pass
        self._caller = gate.use(passed)
        self._route = passed.route
        if SIGNATURE in head.headers:
            self._trusted.may_send(self._caller)
        if passed.caller.rate is None and passed.ends_s == math.inf:
            self._keyring = gate.keyring


def route_of_call(call: InferenceCall) -> str:
    """Return the template of the route of an inference."""
    if call.at_infer:
        return "/infer"
    if call.version is None:
        return "/v2/models/{model}/infer"
    return "/v2/models/{model}/versions/{version}/infer"


def _route_of(head: RequestHead) -> str | None:
    if head.call is not None:
        return route_of_call(head.call)
    found = find_route(_path(head.path))
    method = "GET" if head.method == "HEAD" else head.method
    return found.route if found is not None and method in found.methods else None


def _path(target: str) -> str:
    """Return the path of a target as uvicorn reads it; empty where it finds none."""
    try:
        raw = httptools.parse_url(target.encode("latin-1")).path or b""
        return urllib.parse.unquote(raw.decode("ascii"))
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
        return ""
