"""Which versions of which models are loaded, and which of them answers a request.

A model is here from when it may answer until its memory is given back. The table says who is
asked; it is one immutable snapshot, swapped by reference, so that a request sees one state.
All of it is used on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from pelton.engine.model import Model
from pelton.errors import Conflict, Unavailable
from pelton.messages import InferRequest
from pelton.routing.choice import Choice
from pelton.routing.policy import Route
from pelton.routing.table import Table
from pelton.specs import ModelMetadata


class Models:
    """The loaded versions, and the table by which one is chosen.

    Attributes:
        table: who answers whom.
    """

    def __init__(self, models: Iterable[Model] = (), routes: Iterable[Route] = ()) -> None:
        """Begin with what is loaded; the largest version of each model answers for its name.

        Args:
            models: each in a version of its own.
            routes: what was set for names.
        """
        self.table = Table(routes)
        self._loaded: dict[tuple[str, int], Model] = {}
        for model in models:
            self.add(model)

    # -- the request's way -----------------------------------------------------------------------

    def choose(self, request: InferRequest) -> tuple[Model, Choice]:
        """Return the version that answers a request, and why that one.

        Raises:
            NotFound: no such route or model, not that version of it, or not that label.
            Unavailable: the version is not ready.
            InvalidRequest: the request's key is none.
        """
        choice = self.table.choose(request, request.key)
        return self._at(choice.model, choice.version), choice

    def find(self, name: str, version: str | None = None) -> Model:
        """Return the version that stands for a name: by its metadata a request is decoded.

        Args:
            name: of a route or a model.
            version: the number or the label that is asked for, if any.

        Raises:
            NotFound: no such route or model, not that version of it, or not that label.
            Unavailable: the version is not ready.
        """
        return self._at(*self.table.speaker(name, version))

    def _at(self, name: str, version: int) -> Model:
        model = self._loaded.get((name, version))
        if model is None:
            raise Unavailable(f"version {version} of model {name!r:.80} is not loaded", 1.0)
        return model

    # -- changes ---------------------------------------------------------------------------------

    def add(self, model: Model) -> None:
        """Have a loaded version there for those who ask for it by its number.

        It also answers for its name if it is the largest version and none is set to be active.

        Raises:
            Conflict: that version is there already.
        """
        key = _key(model)
        if key in self._loaded:
            raise Conflict(f"version {key[1]} of model {key[0]!r:.80} is loaded already")
        self._loaded[key] = model
        self._tell_table(key[0], self._active(key[0]))

    def switch(self, model: Model) -> None:
        """Have this version answer for its name from now on; it need not have been added."""
        name, version = _key(model)
        self._loaded[name, version] = model
        self._tell_table(name, version)

    def remove(self, model: Model) -> None:
        """Forget a version; whoever was given it before still has its answer."""
        name, version = _key(model)
        if self._loaded.get((name, version)) is not model:
            return
        del self._loaded[name, version]
        active = self._active(name)
        self._tell_table(name, None if active == version else active)

    def _active(self, name: str) -> int | None:
        known = self.table.models.get(name)
        return None if known is None else known.active

    def _tell_table(self, name: str, active: int | None) -> None:
        ready = [version for model, version in self._loaded if model == name]
        if ready:
            self.table = self.table.with_versions(name, ready, active)
        else:
            self.table = self.table.without_model(name)

    # -- questions -------------------------------------------------------------------------------

    def metadata(self) -> list[ModelMetadata]:
        """Return what the version that stands for each name says of itself, in their order."""
        return [self.find(name).metadata for name in self.names()]

    def names(self) -> list[str]:
        """Return the names that may be asked for, of models and of routes, in order."""
        return self.table.names()

    def loaded(self, name: str | None = None) -> list[Model]:
        """Return the loaded versions, of one model or of all, ascending."""
        return [
            self._loaded[key] for key in sorted(self._loaded) if name is None or key[0] == name
        ]

    def close(self) -> None:
        """Unload everything."""
        loaded, self._loaded = self._loaded, {}
        self.table = Table(self.table.routes.values())
        for model in loaded.values():
            model.close()


def _key(model: Model) -> tuple[str, int]:
    return model.metadata.name, int(model.metadata.version)
