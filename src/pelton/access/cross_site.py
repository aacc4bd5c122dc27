"""Whether a browser sent a request on behalf of a page of ours.

A browser sends a request to any server that a page names, and adds the cookies that it has for it.
Where a cookie, or merely that one can reach the server, lets a request in, the page has to be ours
too. Two headers tell, which no page can set: `Sec-Fetch-Site` (W3C, Fetch Metadata Request
Headers), and in older browsers `Origin` (RFC 6454). Programs send neither.

Pages of other ports of this machine count as strangers, although a browser calls them `same-site`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pelton.errors import AccessDenied

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""What changes nothing, so that anybody may send it; strangers cannot read the answer."""

_OURS = frozenset({"same-origin", "none"})


def check_page(method: str, headers: Mapping[str, str]) -> None:
    """Let a request pass that no page of strangers sent, or that changes nothing.

    Args:
        method: such as `POST`.
        headers: lower-case name -> value.

    Raises:
        AccessDenied: a page of another site, or of another port, sent it.
    """
    if method in SAFE_METHODS:
        return
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is None and origin is None:
        return
    ours = _is_own(origin, headers.get("host")) if site is None else site in _OURS
    if not ours:
        raise AccessDenied(
            "a page of another site sent this request; send it from a page of this server, "
            "or with a key in a header"
        )


def _is_own(origin: str | None, host: str | None) -> bool:
    """Tell whether the page came from the server that it asks, whatever the scheme."""
    return origin is not None and host is not None and origin.partition("://")[2] == host
