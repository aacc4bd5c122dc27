"""Repositories into which something is published."""

from __future__ import annotations

from pathlib import Path

from pelton.repository.publishing import Publisher, Staged
from repository.archives import files, tarred

HIDDEN = ".pelton"
MODEL = tarred(("model.onnx", b"new weights"), ("data/labels.txt", b"null\n"), ("data/none", None))
"""An archive with a model, not one that could be loaded."""


def staged(
    publisher: Publisher, model: str, version: int, archive: bytes = MODEL, file_name: str = ""
) -> Staged:
    """Receive and stage an upload."""
    with publisher.receive(1 << 20) as incoming:
        incoming.write(archive)
        return publisher.stage(incoming.finish(), model, version, file_name)


def seen(root: Path) -> dict[str, bytes]:
    """Return what those see who look for models in a repository."""
    return {name: content for name, content in files(root).items() if not name.startswith(HIDDEN)}


def hidden(root: Path) -> dict[str, bytes]:
    """Return the files of the repository's hidden folder, but the locks."""
    return {
        name: content
        for name, content in files(root).items()
        if name.startswith(HIDDEN) and not name.endswith("/lock")
    }
