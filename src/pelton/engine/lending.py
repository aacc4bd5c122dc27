"""Models that are unloaded while nobody needs them, as the engine sees whoever keeps them.

Where all models stay in memory there is nobody to ask, and this costs a request nothing.
"""

from __future__ import annotations

from typing import Protocol

from pelton.engine.model import Model


class Lease(Protocol):
    """A model that stays loaded until it is given back."""

    @property
    def model(self) -> Model:
        """The model."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Lender(Protocol):
    """Has models loaded when they are needed. A version is called `model/version`."""

    def lease_now(self, name: str) -> Lease | None:
        """Lend a version that is loaded; None if it is not."""
        ...

    async def lease(self, name: str) -> Lease:
        """Lend a version, and load it before if it is not loaded.

        Raises:
            PeltonError: it is not known, cannot be loaded, or there is no room for it.
        """
        ...


def lent_as(model: str, version: int) -> str:
    """Return what a version is called here.

    >>> lent_as("digits", 3)
    'digits/3'
    """
    return f"{model}/{version}"
