"""Imports a `model.py` under a name of its own, with the modules that lie beside it."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType

from pelton.errors import LoadFailed
from pelton.own_paths import without_paths
from pelton.runtimes.contract import Stop

_PREFIX = "pelton_model_"

MAX_SAID = 10_000
"""How much of what an error says is looked at, characters."""

_numbers = itertools.count(1)
_importing = threading.Lock()


@contextmanager
def own_modules(folder: Path, stop: Stop) -> Iterator[None]:
    """Let `import x` in the body find `x.py` of this folder first, and undo that afterwards.

    Afterwards neither the search path nor the table of modules knows the folder's modules, so
    two models may each have a `preprocess.py`. What the model imported it keeps; but what it
    imports only later, while it answers a request, has to be an installed package.

    One model at a time is in the body. A model that hangs there would keep all others out; so it
    is undone at once when the model is given up, although its code may still be running.

    Args:
        folder: the model's folder.
        stop: asked when the model is given up.

    Raises:
        LoadFailed: that was while it waited for another model.
    """
    taken = ExitStack()
    ending = threading.Lock()  # for two threads may end it: this one, and the one that asks

    def end() -> None:
        with ending:
            taken.close()

    try:
        taken.enter_context(_importing)
        taken.enter_context(_found_first(folder))
        stop.on_ask(end)
        if stop.asked:
            raise LoadFailed(f"loading {folder.name!r} was given up")
        yield
    finally:
        stop.on_ask(None)
        end()


@contextmanager
def _found_first(folder: Path) -> Iterator[None]:
    names = _importable(folder)
    others = {name: sys.modules.pop(name) for name in list(sys.modules) if _top(name) in names}
    before = set(sys.modules)
    writes_bytecode = not sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a folder of models is only ever read
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the model may have taken it out itself
            sys.path.remove(str(folder))
        sys.dont_write_bytecode = not writes_bytecode
        for name in sys.modules.keys() - before:
            if not name.startswith(_PREFIX) and _lies_in(sys.modules[name], folder):
                del sys.modules[name]
        sys.modules.update(others)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _importable(folder: Path) -> set[str]:
    """Return the names under which the folder's modules would be imported."""
    files = {one.stem for one in folder.glob("*.py")}
    packages = {one.parent.name for one in folder.glob("*/*.py")}
    return (files | packages) - sys.stdlib_module_names


def _lies_in(module: ModuleType, folder: Path) -> bool:
    told = vars(module)
    places = [told.get("__file__"), *told.get("__path__", ())]
    return any(isinstance(place, str) and Path(place).is_relative_to(folder) for place in places)


def import_file(path: Path) -> ModuleType:
    """Run a file as a module whose name is used by nothing else.

    Raises:
        BaseException: whatever the file's code raises.
    """
    name = f"{_PREFIX}{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        forget(module)
        raise
    return module


def forget(module: ModuleType) -> None:
    """Take a module out of the table of modules, so that its memory can be freed."""
    sys.modules.pop(module.__name__, None)


def told(error: BaseException, folder: Path) -> str:
    """Say in one line where in the model's own files an error arose.

    Returns:
        Such as `model.py line 12 raised ValueError: no weights`.
    """
    place = "model.py"
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        place = f"{Path(error.filename).name} line {error.lineno}"
        error = type(error)(error.msg)
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).is_relative_to(folder):
                place = f"{Path(frame.filename).name} line {frame.lineno}"
    said = without_paths(" ".join(str(error)[:MAX_SAID].split()), folder)
    return f"{place} raised {type(error).__name__}" + (f": {said:.200}" if said else "")
