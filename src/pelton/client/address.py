"""Where a server is: its URL, checked once, and the parts of it that each request needs.

A server on the same machine may listen on a Unix socket: `unix:/run/pelton.sock` names its file,
and everything after `unix:` is the path, as it stands.
"""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from pelton.errors import InvalidRequest, SettingsError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_EXAMPLE = "a URL looks like http://127.0.0.1:50000 or unix:/run/pelton.sock"

_UNIX = "unix:"
_MAX_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""What `sockaddr_un` holds of a path besides its final zero."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address.

    Attributes:
        scheme: `http`, `https` or `unix`.
        host: name or IP address, an IPv6 address without its brackets.
        port: TCP port; 0 for a Unix socket.
        prefix: path under which a proxy offers the server, such as `/pelton`; often empty.
        file: of a Unix socket; empty for any other.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""
    file: str = ""

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header writes them (RFC 9110, section 7.2)."""
        if self.file:
            return self.host
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.file:
            return f"{_UNIX}{self.file}"
        return f"{self.scheme}://{self.authority}{self.prefix}"


def parse_url(url: str) -> Address:
    """Read a server's base URL.

    Args:
        url: scheme, host, optional port and optional path prefix; or `unix:` and a path.

    Raises:
        SettingsError: it is none; the message says what is wrong with it.
    """
    if isinstance(url, str) and url.startswith(_UNIX):
        return _unix_address(url)
    # The standard parser drops line breaks silently, so they are looked for before it.
    if not isinstance(url, str) or _PRINTABLE.fullmatch(url) is None:
        raise SettingsError(f"{url!r:.80} holds characters that no URL may hold; {_EXAMPLE}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{url!r:.80} is not a URL ({error}); {_EXAMPLE}") from None
    if parts.scheme not in _DEFAULT_PORTS or "//" not in url:
        raise SettingsError(
            f"{url!r:.80} does not start with http://, https:// or unix:; {_EXAMPLE}"
        )
    if not parts.hostname:
        raise SettingsError(f"{url!r:.80} names no host; {_EXAMPLE}")
    if port == 0:
        raise SettingsError(f"{url!r:.80} has port 0; {_EXAMPLE}")
    if parts.username is not None:
        raise SettingsError(
            "a URL with a user name would put the password into logs; pass headers={...} instead"
        )
    if parts.query or parts.fragment:
        raise SettingsError(f"{url!r:.80} must end with its path, without '?' or '#'")
    if port is None:
        port = _DEFAULT_PORTS[parts.scheme]
    return Address(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


def _unix_address(url: str) -> Address:
    path = url.removeprefix(_UNIX)
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        if host:
            raise SettingsError(f"{url!r:.160} names the host {host!r:.40}; {_EXAMPLE}")
        path = slash + rest
    if not path:
        raise SettingsError(f"{url!r:.160} names no file; {_EXAMPLE}")
    if not path.isprintable():
        raise SettingsError(f"{url!r:.160} holds characters that no URL may hold; {_EXAMPLE}")
    size = len(path.encode())
    if size > _MAX_PATH_BYTES:
        raise SettingsError(
            f"{url!r:.160} is too long: the path of a Unix socket may have {_MAX_PATH_BYTES} "
            f"bytes, not {size}; choose a shorter one, or a relative one"
        )
    return Address("unix", "localhost", 0, file=path)


def model_path(model: str, version: str | int | None, tail: str = "") -> str:
    """Return the path of a model, quoted: no name can reach another path or end the line.

    Args:
        model: the model's name.
        version: its version, or None for the one that the server picks.
        tail: what follows, such as `/infer`.

    Raises:
        InvalidRequest: the name or the version is empty, `.` or `..`, which a path cannot carry.
    """
    path = f"/v2/models/{quoted(model, 'model name')}"
    if version is not None:
        path += f"/versions/{quoted(str(version), 'version')}"
    return path + tail


def quoted(text: str, what: str) -> str:
    """Quote a name so that it is one piece of a URL, whatever it holds.

    Raises:
        InvalidRequest: it is empty, `.` or `..`, which a path cannot carry, or no valid Unicode.
    """
    if not isinstance(text, str) or text in ("", ".", ".."):
        raise InvalidRequest(f"{text!r:.40} cannot be a {what}")
    try:
        return _remembered_quote(text)
    except UnicodeEncodeError:
        raise InvalidRequest(f"the {what} {text!r:.40} is not valid Unicode") from None


@functools.lru_cache(maxsize=256)
def _remembered_quote(text: str) -> str:
    return quote(text, safe="")
