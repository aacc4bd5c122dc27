"""Which names may become names of files: of models, of versions, and within an archive.

What a stranger sends is never joined to a path before it has passed here.
"""

from __future__ import annotations

import re
import unicodedata

from pelton.errors import Code, InvalidRequest

MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
MAX_VERSION = 999_999_999

MAX_NAME_BYTES = 255
"""The longest name of one file or folder that common file systems take."""

MAX_PATH_BYTES = 1000
"""The longest path within a version; with the repository's own before it, it stays below the 1024
bytes that macOS takes, for a repository of usual depth."""

MAX_DEPTH = 32

_DRIVE = re.compile(r"[A-Za-z]:")
_SHOWN_CHARACTERS = 120


def checked_model(name: str) -> str:
    """Return the name of a model that is to be published.

    Raises:
        InvalidRequest: it is none.
    """
    if not MODEL.fullmatch(name):
        raise InvalidRequest(
            f"{shown(name)} is no name for a model; a name has ASCII letters, digits, dots, dashes "
            "and underscores, at most 128, and begins with a letter or digit"
        )
    if name.isdigit():
        raise InvalidRequest(
            f"{shown(name)} is no name for a model, since its folder would be taken for a "
            "version; put a letter into it"
        )
    return name


def checked_version(version: int) -> int:
    """Return the number of a version that is to be published.

    Raises:
        InvalidRequest: it is none.
    """
    if not 1 <= version <= MAX_VERSION:
        raise InvalidRequest(
            f"{version!s:.40} is no version; versions are whole numbers from 1 to {MAX_VERSION}"
        )
    return version


def checked_parts(path: str) -> tuple[str, ...]:
    """Return the parts of a relative path whose separator is a slash.

    Args:
        path: as an archive tells it, without a slash at its end.

    Raises:
        InvalidRequest: it leads elsewhere, or is none that every file system takes; its code is
            `MALFORMED_REQUEST`.
    """
    wrong = _wrong_with(path)
    if wrong:
        raise InvalidRequest(f"the entry {shown(path)} {wrong}", Code.MALFORMED_REQUEST)
    return tuple(path.split("/"))


def _wrong_with(path: str) -> str:
    if path.startswith("/") or _DRIVE.match(path):
        return "is an absolute path; paths must be relative to the model's folder"
    if "\\" in path:
        return "has a backslash in its name; separate folders by slashes"
    if not path.isprintable():
        return "has a character in its name that cannot be printed; rename it"
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"has a path of more than {MAX_PATH_BYTES} bytes; shorten it"
    parts = path.split("/")
    if len(parts) > MAX_DEPTH:
        return f"lies more than {MAX_DEPTH} folders deep"
    for part in parts:
        if part in ("", ".", ".."):
            return f"has {part!r} as a part of its path; write the path plainly"
        if len(part.encode()) > MAX_NAME_BYTES:
            return f"has a name of more than {MAX_NAME_BYTES} bytes; shorten it"
    return ""


def folded(path: str) -> str:
    """Return what two paths share that are one on some file system.

    macOS tells neither case nor ways of composing a letter apart, Windows no case. This is
    canonical caseless matching (Unicode Standard, 3.13, D145).
    """
    decomposed = unicodedata.normalize("NFD", path)
    return unicodedata.normalize("NFD", decomposed.casefold())


def shown(name: str) -> str:
    """Return a stranger's name as a message may hold it: quoted, escaped and bounded."""
    return ascii(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "...")
