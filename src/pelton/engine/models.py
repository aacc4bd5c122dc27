"""The models that are being served, as one immutable snapshot that is swapped by reference."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from pelton.engine.model import Model
from pelton.errors import NotFound
from pelton.specs import ModelMetadata


class Models:
    """Finds the model that a request names."""

    def __init__(self, models: Iterable[Model] = ()) -> None:
        self._by_name = MappingProxyType({model.metadata.name: model for model in models})

    def find(self, name: str, version: str | None = None) -> Model:
        """Return the loaded model of that name.

        Args:
            name: the model's name.
            version: the version that must answer, or None for the one that is served.

        Raises:
            NotFound: no such model, or not that version of it.
        """
        model = self._by_name.get(name)
        if model is None:
            raise NotFound(f"unknown model {name!r:.80}; {self._told()}")
        if version is not None and version != model.metadata.version:
            raise NotFound(
                f"version {version!r:.40} of model {name!r} is not served; "
                f"version {model.metadata.version} is"
            )
        return model

    def metadata(self) -> list[ModelMetadata]:
        """Return what each model says of itself, in the order of their names."""
        return [self._by_name[name].metadata for name in self.names()]

    def names(self) -> list[str]:
        """Return the models' names in order."""
        return sorted(self._by_name)

    def close(self) -> None:
        """Unload every model."""
        loaded, self._by_name = self._by_name, MappingProxyType({})
        for model in loaded.values():
            model.close()

    def _told(self) -> str:
        names = self.names()
        if not names:
            return "no model is served"
        more = ", ..." if len(names) > 20 else ""
        return f"served are: {', '.join(names[:20])}{more}"
