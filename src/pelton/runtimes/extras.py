"""A framework that is not installed, as a sentence with the line that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pelton.errors import LoadFailed


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Turn the failed import of a framework, made in the body, into a `LoadFailed`.

    Args:
        package: the package whose import may fail.
        extra: the extra of Pelton that installs it.

    Raises:
        LoadFailed: the package is not installed, or its import failed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise LoadFailed(
            f"{package} is not installed; install it: pip install 'pelton[{extra}]'"
        ) from error
    except (ImportError, OSError) as error:  # OSError where one of its libraries is missing
        raise LoadFailed(
            f"{package} is installed but cannot be imported: {error!s:.200}"
        ) from error
