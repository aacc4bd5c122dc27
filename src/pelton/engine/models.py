"""Which versions of which models are loaded, and which of them answers a request.

A version is here from when it may answer until nobody may ask for it any more. Where memory for
models is bounded it may be asleep meanwhile: its memory is given back, and it is loaded again for
whoever asks. The table says who is asked; it is one immutable snapshot, swapped by reference, so
that a request sees one state. All of it is used on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from pelton.engine.model import Model
from pelton.errors import Conflict, PeltonError, Unavailable
from pelton.routing.policy import Route
from pelton.routing.table import Table
from pelton.specs import ModelMetadata


class Models:
    """The loaded versions, and the table by which one is chosen.

    Attributes:
        table: who answers whom; to be replaced as a whole, by one that was made of it.
    """

    def __init__(self, models: Iterable[Model] = (), routes: Iterable[Route] = ()) -> None:
        """Begin with what is loaded; the largest version of each model answers for its name.

        Args:
            models: each in a version of its own.
            routes: what was set for names.
        """
        self.table = Table(routes)
        self._loaded: dict[tuple[str, int], Model] = {}
        self._asleep: dict[tuple[str, int], ModelMetadata] = {}
        self._read_from: Table | None = None  # the table that the next two were read from
        self._names: list[str] = []
        self._speakers: dict[str, ModelMetadata] = {}
        for model in models:
            self.add(model)

    # -- the request's way -----------------------------------------------------------------------

    def at(self, name: str, version: int) -> Model:
        """Return a version that is loaded.

        Raises:
            Unavailable: it is not loaded.
        """
        model = self._loaded.get((name, version))
        if model is None:
            raise Unavailable(f"version {version} of model {name!r:.80} is not loaded", 1.0)
        return model

    # -- changes ---------------------------------------------------------------------------------

    def add(self, model: Model) -> None:
        """Have a loaded version there for those who ask for it by its number, or wake it up.

        It also answers for its name if it is the largest version and none is set to be active.

        Raises:
            Conflict: that version is there already.
        """
        key = _key(model)
        if key in self._loaded:
            raise Conflict(f"version {key[1]} of model {key[0]!r:.80} is loaded already")
        self._loaded[key] = model
        if self._asleep.pop(key, None) is None:
            self._tell_table(key[0], self._active(key[0]))
        else:
            self._read_from = None

    def switch(self, model: Model) -> None:
        """Have this version answer for its name from now on; it need not have been added."""
        key = _key(model)
        self._loaded[key] = model
        self._asleep.pop(key, None)
        self._tell_table(*key)

    def sleep(self, model: Model) -> None:
        """Let go of a version that is to be unloaded, and loaded again when one asks for it."""
        key = _key(model)
        if self._loaded.get(key) is model:
            del self._loaded[key]
            self._asleep[key] = model.metadata

    def remove(self, model: Model) -> None:
        """Forget a version; whoever was given it before still has its answer.

        If it was set to be active, nobody answers for the name until another is switched to:
        what is left may be the very version that was taken back.
        """
        key = _key(model)
        if self._loaded.get(key) is model:
            del self._loaded[key]
            self._tell_table(key[0], self._active(key[0]))

    def forget(self, name: str, version: int) -> None:
        """Forget a version that is asleep; one that is not known is forgotten already."""
        if self._asleep.pop((name, version), None) is not None:
            self._tell_table(name, self._active(name))

    def _active(self, name: str) -> int | None:
        known = self.table.models.get(name)
        return None if known is None else known.active

    def _tell_table(self, name: str, active: int | None) -> None:
        ready = [version for model, version in (*self._loaded, *self._asleep) if model == name]
        if ready:
            self.table = self.table.with_versions(name, ready, active)
        else:
            self.table = self.table.without_model(name)

    # -- questions -------------------------------------------------------------------------------

    def find(self, name: str, version: str | None = None) -> Model:
        """Return the loaded version that stands for a name.

        Args:
            name: of a route or a model.
            version: the number or the label that is asked for, if any.

        Raises:
            NotFound: no such route or model, not that version of it, or not that label.
            Unavailable: the version is not ready, or asleep.
        """
        return self.at(*self.table.speaker(name, version))

    def metadata_of(self, name: str, version: str | None = None) -> ModelMetadata:
        """Return what the version that stands for a name says of itself, were it asleep.

        By it a request is decoded.

        Raises:
            NotFound: no such route or model, not that version of it, or not that label.
            Unavailable: the version is not ready.
        """
        if version is not None:
            return self._metadata_at(*self.table.speaker(name, version))
        if self._read_from is not self.table:
            self._read_anew()
        metadata = self._speakers.get(name)
        if metadata is None:
            metadata = self._metadata_at(*self.table.speaker(name))
            self._speakers[name] = metadata
        return metadata

    def _metadata_at(self, name: str, version: int) -> ModelMetadata:
        asleep = self._asleep.get((name, version))
        return self.at(name, version).metadata if asleep is None else asleep

    def is_ready(self, name: str, version: str | None = None) -> bool:
        """Tell whether the version that stands for a name can take a request, were it asleep.

        Raises:
            NotFound: no such route or model, not that version of it, or not that label.
            Unavailable: the version is not ready.
        """
        key = self.table.speaker(name, version)
        return key in self._asleep or self.at(*key).ready

    def versions_of(self, name: str) -> list[int]:
        """Return the versions of a model that can be asked for, were they asleep; ascending."""
        known = self.table.models.get(name)
        return [] if known is None else sorted(known.ready)

    def get(self, name: str, version: int) -> Model | None:
        """Return a version of a model, if it is loaded."""
        return self._loaded.get((name, version))

    def metadata(self) -> list[ModelMetadata]:
        """Return what the version that stands for each name says of itself, in their order."""
        return [self.metadata_of(name) for name in self.names()]

    def names(self) -> list[str]:
        """Return the names for which somebody answers, of models and of routes, in order."""
        if self._read_from is not self.table:
            self._read_anew()
        return list(self._names)

    def _read_anew(self) -> None:
        self._read_from = self.table
        self._names = [name for name in self.table.names() if self._somebody_answers(name)]
        self._speakers = {}

    def _somebody_answers(self, name: str) -> bool:
        try:
            self.table.speaker(name)
        except PeltonError:  # a route whose model is gone, or whose version is not ready
            return False
        return True

    def loaded(self, name: str | None = None) -> list[Model]:
        """Return the loaded versions, of one model or of all, ascending."""
        return [self._loaded[key] for key in sorted(self._loaded) if name is None or key[0] == name]

    def close(self) -> None:
        """Unload everything."""
        loaded, self._loaded = self._loaded, {}
        self._asleep.clear()
        self.table = Table(self.table.routes.values())
        for model in loaded.values():
            model.close()


def _key(model: Model) -> tuple[str, int]:
    return model.name, model.version
