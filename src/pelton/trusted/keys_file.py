"""The file of signing keys, which is its server's alone.

    [robot-7-2026]              # id of the signing key
    client = "k3J9..."          # id of the API key that its requests come with
    hmac_sha256 = "9f86..."     # at least 64 hex digits, random

    [robot-8]
    client = "x81M..."
    ed25519 = "d75a..."         # the public key, 64 hex digits

To change a client's key, add one under another id, give it to the client, and take the old one
out. The file is looked at before each use, so no restart is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pelton.errors import SettingsError
from pelton.trusted import ed25519
from pelton.trusted.algorithms import MIN_SECRET_BYTES, Check, hmac_check
from pelton.trusted.signing import KEY_ID

logger = logging.getLogger("pelton.trusted")

MAX_FILE_BYTES = 1024 * 1024

_KINDS = ("hmac_sha256", "ed25519")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key that requests are signed with.

    Attributes:
        id: its name in the file and in requests.
        client: id of the API key that such a request has to come with.
        check: tells whether a signature is this key's.
    """

    id: str
    client: str
    check: Check = field(repr=False)


def read_keys(path: Path) -> dict[str, SigningKey]:
    """Read the file of keys.

    Returns:
        Id -> key; at least one.

    Raises:
        SettingsError: the file is not its user's alone, or says something else than keys. The
            message holds no secret.
    """
    try:
        return _keys_in(_read(path)[0], path)
    except OSError as error:
        raise SettingsError(f"cannot read the signing keys in {path}: {error.strerror}") from None


def _read(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """Return the file's contents, and what tells whether it has changed since."""
    # Not through a link; and O_NONBLOCK, since opening a FIFO would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123 -- a descriptor, so that what is checked is read
        told = os.fstat(fd)
        if not stat.S_ISREG(told.st_mode):
            raise SettingsError(f"the signing keys in {path} have to be an ordinary file")
        if told.st_uid != os.geteuid():
            raise SettingsError(
                f"the signing keys in {path} belong to user {told.st_uid}, but the server runs "
                f"as user {os.geteuid()}; make the file its own"
            )
        if told.st_mode & 0o177:
            raise SettingsError(
                f"the signing keys in {path} are open to others (mode "
                f"{stat.S_IMODE(told.st_mode):04o}); run chmod 0600 on the file"
            )
        contents = file.read(MAX_FILE_BYTES + 1)
        if len(contents) > MAX_FILE_BYTES:
            raise SettingsError(f"the signing keys in {path} are more than {MAX_FILE_BYTES} bytes")
        return contents, _mark(told)


def _mark(told: os.stat_result) -> tuple[int, ...]:
    # The time of a change of mode or owner is st_ctime.
    return (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


def _keys_in(contents: bytes, path: Path) -> dict[str, SigningKey]:
    try:
        table = tomllib.loads(contents.decode())
    except ValueError:
        # What the parser says might quote a secret.
        raise SettingsError(f"the signing keys in {path} are not valid TOML") from None
    if not table:
        raise SettingsError(f"there are no signing keys in {path}")
    return {name: _key(name, told, path) for name, told in table.items()}


def _key(name: str, told: Any, path: Path) -> SigningKey:
    where = f"signing key {name!r:.80} in {path}"
    if not KEY_ID.fullmatch(name):
        raise SettingsError(f"{where}: an id has up to 64 letters, digits, '.', '_' and '-'")
    if not isinstance(told, dict):
        raise SettingsError(f"{where} has to be a table of its own")
    kinds = told.keys() & set(_KINDS)
    if len(kinds) != 1 or told.keys() != {"client", *kinds}:
        raise SettingsError(f"{where} has to have client, and one of {' and '.join(_KINDS)}")
    client = told["client"]
    if not isinstance(client, str) or not client:
        raise SettingsError(f"{where}: client has to be the id of an API key")
    (kind,) = kinds
    return SigningKey(name, client, _check(kind, told[kind], where))


def _check(kind: str, told: Any, where: str) -> Check:
    secret = b""
    with contextlib.suppress(TypeError, ValueError):
        secret = bytes.fromhex(told)
    if kind == "hmac_sha256":
        if len(secret) < MIN_SECRET_BYTES:
            raise SettingsError(f"{where}: {kind} has to be {2 * MIN_SECRET_BYTES} hex digits")
        return hmac_check(secret)
    if len(secret) != ed25519.KEY_BYTES:
        raise SettingsError(f"{where}: {kind} has to be {2 * ed25519.KEY_BYTES} hex digits")
    return ed25519.check(secret)


class KeysFile:
    """The keys of a file, read again when it has changed; threads may share it."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SettingsError: see `read_keys`.
        """
        self._path = path
        self._lock = threading.Lock()
        self._keys: Mapping[str, SigningKey] = read_keys(path)
        self._mark: tuple[int, ...] = ()

    def find(self, key: str) -> SigningKey | None:
        """Return the key with this id, if the file has it now.

        While the file cannot be read, or is open to others, there are no keys; the log says why.
        """
        with self._lock:
            self._look_again()
            return self._keys.get(key)

    def _look_again(self) -> None:
        mark: tuple[int, ...] = ()
        try:
            mark = _mark(os.stat(self._path, follow_symlinks=False))  # noqa: PTH116
            if mark == self._mark:
                return
            contents, self._mark = _read(self._path)
            self._keys = _keys_in(contents, self._path)
        except OSError as error:
            self._lose(mark, f"cannot read the signing keys in {self._path}: {error.strerror}")
        except SettingsError as error:
            self._lose(mark, error.message)

    def _lose(self, mark: tuple[int, ...], why: str) -> None:
        if self._keys:
            logger.error("%s; until that is mended, no signed object is taken", why)
        self._keys, self._mark = {}, mark
