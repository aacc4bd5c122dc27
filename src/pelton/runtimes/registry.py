"""Name of a runtime -> its loader, with the framework imported only when a model asks for it.

A package of yours becomes a runtime by an entry point in its `pyproject.toml`:

    [project.entry-points."pelton.runtimes"]
    mine = "my_package:plugin"

where `plugin` is a `RuntimePlugin`. Keep that module light and import the framework inside
`load`: the plug-ins of an environment are all looked at when the server starts.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pelton.errors import LoadFailed
from pelton.runtimes.contract import LoadedModel, Loader, LoaderUntil, RuntimeOptions, Stop
from pelton.specs import ModelSpec

ENTRY_POINTS = "pelton.runtimes"
"""The entry-point group that makes a package a runtime."""


@dataclass(frozen=True, slots=True)
class RuntimePlugin:
    """One runtime: what it is called, which files are its own, and how it loads them.

    Attributes:
        name: the runtime's name, as `model.toml` writes it.
        suffixes: endings of the files that it loads, such as `.onnx`; a name without a leading
            dot, such as `model.py`, is a file that makes the folder around it the model.
        load: loads one model.
        isolated: whether its models live in worker processes where nobody says otherwise, so
            that one which crashes or hangs harms nobody else. False for code that is trusted not
            to, and whose models keep nothing between two runs.
        load_until: does the same until it is asked to stop; None where a load that hangs is in
            nobody's way.
    """

    name: str
    suffixes: tuple[str, ...]
    load: Loader
    isolated: bool = True
    load_until: LoaderUntil | None = None


def _load_onnx(spec: ModelSpec, options: RuntimeOptions) -> LoadedModel:
    from pelton.runtimes.onnx.model import load

    return load(spec, options)


def _load_torch(spec: ModelSpec, options: RuntimeOptions) -> LoadedModel:
    from pelton.runtimes.torch.model import load

    return load(spec, options)


def _load_python(spec: ModelSpec, options: RuntimeOptions, stop: Stop | None = None) -> LoadedModel:
    from pelton.runtimes.python.model import load

    return load(spec, options, stop)


BUILT_IN = (
    RuntimePlugin("onnx", (".onnx",), _load_onnx, isolated=False),
    RuntimePlugin("torch", (".pt2", ".pt", ".pth", ".ts", ".torchscript"), _load_torch),
    RuntimePlugin("python", ("model.py",), _load_python, load_until=_load_python),
)


@functools.cache
def runtimes() -> Mapping[str, RuntimePlugin]:
    """Return every runtime by name: the built-in ones and those of installed packages.

    Raises:
        LoadFailed: an entry point cannot be loaded, or two runtimes claim one name or file.
    """
    return by_name([*BUILT_IN, *_installed()])


def _installed() -> Iterator[RuntimePlugin]:
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            plugin = entry.load()
        # Border: the entry point is another package's code, and importing it may do anything.
        except Exception as error:
            raise LoadFailed(
                f"the runtime plug-in {entry.name!r} ({entry.value}) cannot be loaded: "
                f"{type(error).__name__}: {error!s:.200}"
            ) from error
        if not isinstance(plugin, RuntimePlugin):
            raise LoadFailed(
                f"the runtime plug-in {entry.name!r} ({entry.value}) is a "
                f"{type(plugin).__name__}; it must be a pelton.runtimes.registry.RuntimePlugin"
            )
        yield plugin


def by_name(plugins: Iterable[RuntimePlugin]) -> dict[str, RuntimePlugin]:
    """Put runtimes into a table.

    Raises:
        LoadFailed: two of them have the same name or claim the same files.
    """
    table: dict[str, RuntimePlugin] = {}
    owners: dict[str, str] = {}
    for plugin in plugins:
        if plugin.name in table:
            raise LoadFailed(
                f"two runtimes are called {plugin.name!r}; uninstall one of the two packages"
            )
        table[plugin.name] = plugin
        for suffix in plugin.suffixes:
            owner = owners.setdefault(suffix.lower(), plugin.name)
            if owner != plugin.name:
                raise LoadFailed(
                    f"the runtimes {owner!r} and {plugin.name!r} both claim {suffix} files; "
                    "uninstall one of the two packages"
                )
    return table


def claims() -> dict[str, str]:
    """Return which runtime loads which files, as `repository.scan` wants it.

    Returns:
        Suffix (`.onnx`), or file name that marks a folder (`model.py`) -> name of the runtime.

    Raises:
        LoadFailed: as `runtimes`.
    """
    return {
        suffix.lower(): plugin.name for plugin in runtimes().values() for suffix in plugin.suffixes
    }


def load(spec: ModelSpec, options: RuntimeOptions, stop: Stop | None = None) -> LoadedModel:
    """Load a model with the runtime that its spec names; a `Loader` for any model.

    Args:
        spec: the model.
        options: how it is run.
        stop: asked when nobody waits any more.

    Raises:
        LoadFailed: the runtime is unknown or not installed, or it cannot load the model.
    """
    plugin = plugin_of(spec)
    if stop is None or plugin.load_until is None:
        return plugin.load(spec, options)
    return plugin.load_until(spec, options, stop)


def plugin_of(spec: ModelSpec) -> RuntimePlugin:
    """Return the runtime that a model's spec names.

    Raises:
        LoadFailed: there is none of that name.
    """
    plugin = runtimes().get(spec.runtime)
    if plugin is None:
        near = difflib.get_close_matches(spec.runtime, runtimes(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(runtimes())}"
        raise LoadFailed(
            f"model {spec.name!r} asks for the unknown runtime {spec.runtime!r:.60}; {hint}"
        )
    return plugin
