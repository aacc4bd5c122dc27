"""The sockets that the server listens on, and who is at the other end of a Unix one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
import sys
from pathlib import Path

from pelton.errors import LoadFailed

BACKLOG = 2048
"""Connections that the kernel keeps until they are taken in."""

_PROBE_TIMEOUT_S = 1.0

_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""From macOS's <sys/un.h>; Python has no names for them."""


class UnixListener(socket.socket):
    """A listening Unix socket that knows its file.

    Attributes:
        path: the file.
    """

    path: Path
    _identity: tuple[int, int]

    @classmethod
    def at(cls, path: Path) -> UnixListener:
        """Make the file, for its owner only, and listen.

        Raises:
            OSError: the path is too long, is there already, or cannot be made.
        """
        made = cls(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.bind(os.fspath(path))
            # Nobody can connect before it listens, so the mode is there in time.
            path.chmod(0o600)
            made.listen(BACKLOG)
            made.path = path
            made._identity = _identity(path)
        except OSError:
            made.close()
            raise
        return made

    def remove(self) -> None:
        """Remove the file, unless another has taken its place."""
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                self.path.unlink()


def bind_tcp(host: str, port: int) -> socket.socket:
    """Bind the address to serve on, before anything slow is done; `listen` comes later.

    Args:
        host: a name or an address.
        port: 0 takes a free one.

    Raises:
        LoadFailed: the address is taken or not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost may stand for both; clients try the older kind at least.
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "this is no address"
        raise LoadFailed(f"cannot listen on {host}: {reason}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _address_taken(host, port, error) from None
    return listener


def listen(listener: socket.socket) -> None:
    """Let connections come; of a Unix socket they do already.

    Raises:
        LoadFailed: another server has begun to listen there since it was bound.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _address_taken(host, port, error) from None


def bind_unix(path: str) -> UnixListener:
    """Make a Unix socket that only this user may connect to, and listen.

    It listens at once, unlike TCP: that is how another server tells that the file is in use. So
    clients that come while models are being loaded wait. A file on which nobody listens, left
    by a server that was killed, is replaced.

    Args:
        path: of the file; its folder has to be there.

    Raises:
        LoadFailed: a server listens there, something else has this name, or the file cannot be
            made.
    """
    file = Path(path).absolute()
    try:
        _remove_stale(file)
        return UnixListener.at(file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LoadFailed(
            f"cannot listen on the Unix socket {path}: {reason}; choose another path with --uds"
        ) from None


def is_same_user(transport: asyncio.BaseTransport) -> bool:
    """Tell whether the process at the other end of a Unix socket is this user's.

    The kernel noted who it was when it connected: SO_PEERCRED (Linux, unix(7)) or LOCAL_PEERCRED
    (macOS, unix(4)).
    """
    here = transport.get_extra_info("socket")
    try:
        # uvloop's own socket object has no options; a duplicate of the descriptor has.
        with socket.socket(fileno=os.dup(here.fileno())) as connection:
            return _peer_user(connection) == os.geteuid()
    except OSError:
        return False


def _peer_user(connection: socket.socket) -> int | None:
    user: int | None = None
    if sys.platform == "linux":
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _process, user, _group = struct.unpack("3i", told)
    elif sys.platform == "darwin":
        # struct xucred begins with its version, which is 0, and the effective user.
        told = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76)
        version, owner = struct.unpack_from("2I", told)
        user = owner if version == 0 else None
    return user


def _remove_stale(file: Path) -> None:
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LoadFailed(
            f"cannot listen on the Unix socket {file}: something else has this name; "
            "choose another path with --uds"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(os.fspath(file))
        except ConnectionRefusedError:
            file.unlink()
            return
        except (BlockingIOError, TimeoutError):
            pass  # its backlog is full: somebody listens
    raise LoadFailed(
        f"cannot listen on the Unix socket {file}: another server listens there; "
        "stop it, or choose another path with --uds"
    )


def _identity(file: Path) -> tuple[int, int]:
    found = file.lstat()
    return found.st_dev, found.st_ino


def _address_taken(host: str, port: int, error: OSError) -> LoadFailed:
    return LoadFailed(
        f"cannot listen on {host} port {port}: {error.strerror}; "
        "if another server runs there, choose another port with --port"
    )
