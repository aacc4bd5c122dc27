"""Takes the paths of this machine out of what strangers read.

What foreign code says when it fails often names files with their whole paths: where the server
keeps uploads, its home, its interpreter. Of each only the last name is left, which is what the
author of a model knows it by.
"""

from __future__ import annotations

import re
from pathlib import Path

_NAME = r"[^\s/'\"`<>|:;,()\[\]{}]++"

# Nothing is tried twice (`++`, `*+`): whoever wrote the text may have wanted it to take long.
_ABSOLUTE = re.compile(
    # A slash behind a word, a dot or a tilde is inside of something else, such as `model/2`, and
    # two behind a colon belong to the address of a server.
    rf"(?:\bfile:|(?<![\w./~])(?<!:(?=//)))/++({_NAME})(?:/++({_NAME}))*+"
)


def without_paths(said: str, home: Path | None = None) -> str:
    """Return a text in which no absolute path stands.

    Args:
        said: the text.
        home: the folder that it most likely speaks of: what lies below is told by its path from
            there. Spaces in the names of it and of those around it are no end of a path.

    Returns:
        The text, with `.../NAME` for any other path.
    """
    if home is not None:
        said = said.replace(f"{home}/", "")
        for place in (home, *home.parents):
            if " " in str(place):
                said = said.replace(str(place), f".../{place.name}")
    return _ABSOLUTE.sub(lambda found: f".../{found[2] or found[1]}", said)
