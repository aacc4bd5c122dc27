"""Loads and runs a user's `model.py`."""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pelton.errors import InvalidRequest, LoadFailed
from pelton.messages import Value
from pelton.runtimes.choices import own_options
from pelton.runtimes.contract import LoadedModel, RuntimeOptions, Stop
from pelton.runtimes.memory import free_cycles, give_memory_back
from pelton.runtimes.python.importing import forget, import_file, own_modules, told
from pelton.runtimes.python.results import to_outputs
from pelton.runtimes.python.seeds import seed_everything
from pelton.specs import ModelMetadata, ModelSpec

logger = logging.getLogger("pelton.runtimes")

OPTIONS = {"device": str, "concurrent": bool, "objects": bool}
"""What `model.toml` may set; `objects` stands at its top level."""

FILE = "model.py"

SHOULD_HOLD = (
    "it must hold the functions load_model(model_path, device) and model_inference(obs), "
    "or a class with the methods load(path, device) and predict(inputs)"
)


@dataclass(frozen=True, slots=True)
class Author:
    """What a `model.py` comes to.

    Attributes:
        predict: obs -> result.
        name: the model's type for people.
        concurrent: whether the author says that threads may share it.
    """

    predict: Callable[[dict[str, Value]], Any]
    name: str
    concurrent: bool


def load(spec: ModelSpec, options: RuntimeOptions, stop: Stop | None = None) -> LoadedModel:
    """Load the `model.py` of a folder.

    Args:
        spec: the model; its path is the folder.
        options: the device is handed to the author's code as it is.
        stop: asked when nobody waits any more; code that hangs is then in no other model's way.

    Raises:
        LoadFailed: the code is missing something, or it raised.
    """
    own = own_options(spec, OPTIONS)
    device = own.get("device", options.device)
    folder = spec.path.resolve()
    if not (folder / FILE).is_file():
        raise LoadFailed(f"there is no {FILE} in {folder.name}; {SHOULD_HOLD}")
    module, author = _run_author(folder, device, stop or Stop())
    metadata = ModelMetadata(
        name=spec.name,
        version=str(spec.version),
        platform="python",
        inputs=spec.inputs,
        outputs=spec.outputs,
        takes_objects=not spec.inputs or own.get("objects", False),
        labels=spec.labels,
        device=device,
        model_type=author.name,
        size_bytes=_folder_bytes(folder),
    )
    concurrent = own.get("concurrent", author.concurrent)
    return PythonRunner(metadata, author, module, concurrent, seeded=options.deterministic)


class PythonRunner:
    """A user's model in this process."""

    quick = False

    def __init__(
        self,
        metadata: ModelMetadata,
        author: Author,
        module: ModuleType,
        concurrent: bool,
        *,
        seeded: bool = False,
    ) -> None:
        self.metadata = metadata
        self.concurrent = concurrent
        self._predict = author.predict
        self._module = module
        self._seeded = seeded

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Compute every output; see `LoadedModel.run`.

        An input that is declared with the shape [] reaches the code as a plain number or text.

        Raises:
            InvalidRequest: a declared input is missing.
        """
        obs = dict(inputs)
        for spec in self.metadata.inputs:
            if spec.name not in obs:
                raise InvalidRequest(f"input {spec.name!r} is missing")
            if not spec.shape:
                obs[spec.name] = _scalar(obs[spec.name])
        if self._seeded:
            seed_everything()
        try:
            result = self._predict(obs)
        except (SystemExit, KeyboardInterrupt) as error:
            # Only the server's own signals end the server.
            raise RuntimeError(f"{FILE} raised {type(error).__name__}") from error
        return to_outputs(result, self.metadata.outputs)

    def close(self) -> None:
        """Let go of everything that the author's code holds."""
        forget(self._module)
        del self._predict, self._module
        free_cycles()
        give_memory_back()


def _run_author(folder: Path, device: str, stop: Stop) -> tuple[ModuleType, Author]:
    try:
        with own_modules(folder, stop):
            module = import_file(folder / FILE)
            try:
                return module, _find_author(module, str(folder), device)
            except BaseException:
                forget(module)
                raise
    except LoadFailed:
        raise
    # Border: the author's code may raise anything, SystemExit included.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and _is_main_thread():
            raise  # somebody pressed Ctrl-C
        logger.debug("%s of %s raised", FILE, folder.name, exc_info=error)
        cure = ""
        if isinstance(error, ModuleNotFoundError):
            cure = "; install it into the server's environment"
        raise LoadFailed(told(error, folder) + cure) from error


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _find_author(module: ModuleType, folder: str, device: str) -> Author:
    load_model = getattr(module, "load_model", None)
    inference = getattr(module, "model_inference", None)
    if callable(load_model) and callable(inference):
        _must_take(load_model, 2, "load_model(model_path, device)")
        takes_model = _required(inference) == 2
        if not takes_model:
            _must_take(inference, 1, "model_inference(obs)")
        model = load_model(folder, device)
        predict = (lambda obs: inference(model, obs)) if takes_model else inference
        return Author(predict, "Python", getattr(module, "concurrent", False) is True)
    made = _class_of(module)()
    _must_take(made.load, 2, "load(path, device)")
    _must_take(made.predict, 1, "predict(inputs)")
    made.load(folder, device)
    return Author(made.predict, type(made).__name__, getattr(made, "concurrent", False) is True)


def _class_of(module: ModuleType) -> Callable[[], Any]:
    found = [
        one
        for one in vars(module).values()
        if inspect.isclass(one)
        and one.__module__ == module.__name__
        and callable(getattr(one, "load", None))
        and callable(getattr(one, "predict", None))
    ]
    if not found:
        raise LoadFailed(f"{FILE} holds no model: {SHOULD_HOLD}")
    if len(found) > 1:
        names = ", ".join(one.__name__ for one in found)
        raise LoadFailed(f"{FILE} holds several classes with load and predict ({names}); keep one")
    return found[0]


def _required(function: Callable[..., Any]) -> int | None:
    """Return how many arguments a function cannot do without; None if it does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)


def _must_take(function: Callable[..., Any], arguments: int, wanted: str) -> None:
    if inspect.iscoroutinefunction(function):
        raise LoadFailed(f"{wanted} in {FILE} is async; it must be a plain function")
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        raise LoadFailed(f"{FILE} must define {wanted}, with these arguments") from None
    except ValueError:
        return  # written in C, and says nothing of its arguments


def _scalar(value: Value) -> Value:
    """Return the number or text that an array of one element holds."""
    if not isinstance(value, np.ndarray) or value.shape not in ((), (1,)):
        return value
    item = value.item()
    if not isinstance(item, bytes):
        return item
    try:
        return item.decode()
    except UnicodeDecodeError:
        return item


def _folder_bytes(folder: Path) -> int:
    return sum(
        (Path(where) / name).lstat().st_size
        for where, _, names in os.walk(folder)
        for name in names
        if not where.endswith("__pycache__")
    )
