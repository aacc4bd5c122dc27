"""Starts with the models that lie under a path, each in the version that answered last.

A model that cannot be loaded, or does not come back from it, does not keep the others from being
served, unless there is none. All of it blocks, and happens before the event loop runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pelton.engine.model import Model
from pelton.engine.model_states import State
from pelton.engine.models import Models
from pelton.errors import LoadFailed, SettingsError
from pelton.lifecycle import memory
from pelton.lifecycle.bounded_memory import BoundedMemory
from pelton.lifecycle.intake import Intake
from pelton.lifecycle.keeper import Keeper, Parts
from pelton.lifecycle.keeper_plan import KeeperPlan
from pelton.lifecycle.memory import Loading, UnboundedMemory
from pelton.lifecycle.model_steps import Tools
from pelton.lifecycle.repository_view import RepositoryView
from pelton.lifecycle.version import Source
from pelton.lifecycle.version_records import AuditTrail, VersionRecords, VersionStore
from pelton.repository.publishing import Publisher, published
from pelton.repository.scan import FoundModel
from pelton.repository.watching import look
from pelton.repository.workplace import sweep
from pelton.runtimes import registry
from pelton.specs import ModelSpec

logger = logging.getLogger("pelton.lifecycle")


class BootLoader(memory.Loader, Protocol):
    """Loads several versions before the event loop runs."""

    def load_each(self, specs: Sequence[ModelSpec], timeout_s: float) -> list[Model | LoadFailed]:
        """Load and warm versions.

        Args:
            specs: the versions.
            timeout_s: how long each may take; one that hangs is then given up.

        Returns:
            Each version, or why it cannot be loaded, in their order.
        """
        ...


def _unknown(name: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told of what, beside the keeper.

    Attributes:
        known: told of each model's name before it may be asked for.
        label: given the labels of a model whenever its `model.toml` was read; None gives them to
            the table itself.
    """

    known: Callable[[str], None] = _unknown
    label: Callable[[str, Mapping[str, int]], None] | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept across restarts.

    Attributes:
        versions: what was published, and which version answers; None where nothing is kept.
        audit: takes changes.
    """

    versions: VersionStore | None = None
    audit: AuditTrail | None = None


def open_keeper(
    root: Path,
    plan: KeeperPlan,
    loader: BootLoader,
    models: Models,
    kept: Kept | None = None,
    told: Told | None = None,
) -> Keeper:
    """Load the models under a path, and return who keeps them.

    Args:
        root: a model's file, a model's folder, or a folder of models.
        plan: what the settings say.
        loader: loads models.
        models: where requests find them; empty.
        kept: what is kept across restarts; None for nothing.
        told: who else is told; None for nobody.

    Raises:
        LoadFailed: nothing is there, or nothing of it can be served; nothing is left loaded.
        SettingsError: the path is none in which models may come and go, as the settings want it.
        Unavailable: the database is busy or away.
    """
    kept, told = kept or Kept(), told or Told()
    view = RepositoryView(root, registry.claims())
    publisher = _publisher(view, plan)
    with ExitStack() as undone:
        if publisher is not None:
            undone.callback(publisher.close)
        records = VersionRecords(kept.versions, publisher, kept.audit)
        if publisher is not None:
            records.quarantine_strangers(published(root))
        first_look = look(root) if plan.watch_interval_s else None
        loading = Loading(loader)
        bounded = None
        if plan.max_models_bytes is not None:
            bounded = BoundedMemory(plan.max_models_bytes, models, loading)
        room = UnboundedMemory(models, loading) if bounded is None else bounded
        tools = Tools(models, room, records, publisher, view.one, told.known, plan.swap)
        intake = None
        if publisher is not None:
            intake = Intake(publisher, records, view.staged, plan.max_upload_bytes)
        label = told.label or _labels_into(models)
        keeper = Keeper(Parts(plan, view, tools, intake, bounded, label, first_look))
        undone.callback(models.close)
        _Boot(keeper, tools, view, loader).load(bounded, plan)
        undone.pop_all()
    return keeper


def _publisher(view: RepositoryView, plan: KeeperPlan) -> Publisher | None:
    if not view.is_folder and (plan.allow_publish or plan.watch_interval_s):
        raise SettingsError(
            f"{view.root} is one model; for models to come and go (allow_publish, "
            "watch_interval_s), serve a folder of models"
        )
    if not plan.allow_publish:
        return None
    try:
        swept = sweep(view.root)
    except OSError as error:
        raise SettingsError(
            f"what a server left in {view.root} cannot be removed: {error.strerror}"
        ) from error
    if swept:
        logger.warning("what %d servers left that were killed has been removed", swept)
    return Publisher(view.root)


def _labels_into(models: Models) -> Callable[[str, Mapping[str, int]], None]:
    def label(model: str, labels: Mapping[str, int]) -> None:
        models.table = models.table.with_labels(model, labels)

    return label


class _Boot:
    """Loads what is to be loaded at first."""

    def __init__(
        self,
        keeper: Keeper,
        tools: Tools,
        view: RepositoryView,
        loader: BootLoader,
    ) -> None:
        self._keeper = keeper
        self._tools = tools
        self._view = view
        self._loader = loader
        self._active: dict[str, int] = {}
        self._faults: list[tuple[str, LoadFailed]] = []

    def load(self, bounded: BoundedMemory | None, plan: KeeperPlan) -> None:
        """Load all models.

        Raises:
            LoadFailed: none can be served.
        """
        found = [] if plan.changes and self._view.is_empty() else self._view.all()
        wanted = list(self._wanted(found))
        if bounded is None:
            specs = [source.spec for source in wanted]
            outcomes = self._loader.load_each(specs, plan.start_timeout_s)
            for source, loaded in zip(wanted, outcomes, strict=True):
                self._put(source, loaded, None)
        else:
            # What is to stay comes first, since there may be no room for all.
            for source in sorted(wanted, key=lambda source: not source.spec.pinned):
                (loaded,) = self._loader.load_each([source.spec], plan.start_timeout_s)
                self._put(source, loaded, bounded)
        self._tell_faults(not found or any(self._keeper.shelf(one.name).versions for one in found))

    def _wanted(self, models: Iterable[FoundModel]) -> Iterable[Source]:
        """Yield what is to be loaded, the versions that are to answer last of their models."""
        records = self._tools.records
        rows, swaps = records.versions(), records.latest_swaps()
        for found in models:
            shelf = self._keeper.shelf(found.name)
            own = [row for row in rows if row.model == found.name]
            shelf.remember(own, swaps.get(found.name))
            self._keeper.know(found)
            if found.broken is not None:
                self._keeper.steps(found.name).expect(None)
                self._fail(found.name, None, found.broken)
                continue
            active = shelf.active(row.version for row in own)
            assert active is not None, "a model that is not broken has a version"
            self._active[found.name] = active
            self._keeper.steps(found.name).expect(active)
            for number in sorted({*shelf.chosen(), active}):
                spec = found.versions[number]
                try:
                    if isinstance(spec, LoadFailed):
                        raise spec
                    yield self._view.source(spec)
                except LoadFailed as error:
                    self._fail(found.name, number, error)

    def _put(
        self, source: Source, loaded: Model | LoadFailed, bounded: BoundedMemory | None
    ) -> None:
        spec = source.spec
        if isinstance(loaded, LoadFailed):
            self._fail(spec.name, spec.version, loaded)
            return
        version = self._keeper.steps(spec.name).version_of(source)
        version.move(State.WARMING, State.READY)
        active = self._active[spec.name] == spec.version
        shelf = self._keeper.shelf(spec.name)
        shelf.versions.append(version)
        self._tools.known(spec.name)
        if bounded is not None:
            if not bounded.take_over(version, loaded, active):
                loaded.close()
        else:
            version.became(loaded)
            (self._tools.memory.switch if active else self._tools.memory.add)(version)
        if active:
            self._keeper.swap(spec.name, version)

    def _fail(self, name: str, number: int | None, error: LoadFailed) -> None:
        self._faults.append((name, error))
        if number is not None:
            self._keeper.shelf(name).failed[number] = error.message

    def _tell_faults(self, something_is_served: bool) -> None:
        """Log what cannot be served, unless it is one thing and the reason why the server ends."""
        if not something_is_served and len(self._faults) == 1:
            raise self._faults[0][1]
        for name, error in self._faults:
            logger.error("model %s is not served: %s", name, error.message)
        if not something_is_served:
            raise LoadFailed(f"none of the {len(self._faults)} models can be served")
