"""Tells from a file's contents which kind of PyTorch file it is, without PyTorch.

`torch.save`, `torch.jit.save` and `torch.export.save` all write zip archives, and people give
them all the same endings, so the ending says nothing.
"""

from __future__ import annotations

import enum
import zipfile
from pathlib import Path

from pelton.errors import LoadFailed


class TorchFormat(enum.Enum):
    """The kinds of file that can be served."""

    EXPORTED = "exported program"
    SCRIPT = "TorchScript"


EXPORT = (
    "export the model with torch.export.save(torch.export.export(model, example_inputs), "
    "'model.pt2')"
)
"""The cure for most files that cannot be served."""


def torch_format(path: Path) -> TorchFormat:
    """Say how a file has to be loaded.

    Args:
        path: the file.

    Raises:
        LoadFailed: it cannot be read, or is no model in one of the two formats.
    """
    name = path.name
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {entry.partition("/")[2] or entry for entry in archive.namelist()}
    except OSError as error:
        raise LoadFailed(f"{name} cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise LoadFailed(
            f"{name} is no PyTorch archive, or was cut short; copy it again, or {EXPORT}"
        ) from None
    if any(entry.startswith("data/aotinductor/") for entry in inside):
        raise LoadFailed(
            f"{name} holds a program compiled for one kind of machine (AOTInductor); {EXPORT}"
        )
    if "archive_format" in inside:
        return TorchFormat.EXPORTED
    if "constants.pkl" in inside:
        return TorchFormat.SCRIPT
    if "data.pkl" in inside:
        raise LoadFailed(
            f"{name} was written by torch.save and holds weights or a pickled object, not a "
            f"model that runs by itself; {EXPORT}"
        )
    if "serialized_exported_program.json" in inside:
        raise LoadFailed(f"{name} is in the format of PyTorch 2.7 and older; {EXPORT}")
    raise LoadFailed(f"{name} is a zip archive but no PyTorch model; {EXPORT}")
