"""What the server knows about itself, handed to the routes that tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pelton.specs import ModelMetadata


class Facts(Protocol):
    """What is asked of the engine."""

    ready: bool

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata: ...  # noqa: D102
    def model_ready(self, name: str, version: str | None = None) -> bool: ...  # noqa: D102
    def names(self) -> list[str]: ...  # noqa: D102
    def versions(self, name: str) -> list[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """Answers questions about the server and its models.

    Attributes:
        engine: knows the models.
        version: the server's version.
        statistics: returns the totals for `GET /stats`; the whole, or one model's.
        default_model: the model that answers where none is named, if there is one.
        writable: tells whether what outlives the server can be changed now; None where nothing
            is kept. Requests are answered either way, so it says nothing about being ready.
    """

    engine: Facts
    version: str
    statistics: Callable[[str | None], dict[str, Any]]
    default_model: str | None = None
    writable: Callable[[], bool] | None = None

    @property
    def ready(self) -> bool:
        """Whether new work is welcome."""
        return self.engine.ready

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Tell whether new work for one model is welcome, and something is there to run it.

        Raises:
            NotFound: no such model or version.
        """
        return self.engine.model_ready(name, version) and self.ready

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        """Return what a model says of itself.

        Raises:
            NotFound: no such model or version.
        """
        return self.engine.metadata(name, version)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that can be asked for, ascending."""
        return self.engine.versions(name)

    def models(self) -> list[ModelMetadata]:
        """Return what each model says of itself, in the order of their names; not its routes."""
        named = ((name, self.engine.metadata(name)) for name in self.engine.names())
        return [metadata for name, metadata in named if metadata.name == name]
