"""Which library may be imported where, and what `wire`, `batching`, `routing` must never touch.

A framework belongs to the files named for it or to the one room that it serves, so that it can be
replaced there, and so that a server never imports what no model asked for.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rules.source_tree import SourceTree, pelton_tree, write_tree


@dataclass(frozen=True)
class Allowed:
    """Where a library may be imported.

    Attributes:
        modules: modules of Pelton, with everything inside them.
        on_demand: whether no module outside may import one of these except inside a function,
            so that the library waits until a model asks for it.
    """

    modules: tuple[str, ...]
    on_demand: bool = False


LIBRARIES: dict[str, Allowed] = {
    "numpy": Allowed(("pelton",)),
    "httptools": Allowed(("pelton.client", "pelton.servers")),
    "onnxruntime": Allowed(("pelton.runtimes.onnx",), on_demand=True),
    "torch": Allowed(("pelton.runtimes.torch",), on_demand=True),
    "sqlalchemy": Allowed(("pelton.state",), on_demand=True),
    "alembic": Allowed(("pelton.state",), on_demand=True),
    "psycopg": Allowed(("pelton.state.postgres", "pelton.state.postgres_connection")),
    "redis": Allowed(("pelton.access.redis_limit", "pelton.caching.redis_store"), on_demand=True),
    "cryptography": Allowed(("pelton.trusted.ed25519",)),
    "fastapi": Allowed(("pelton.servers",)),
    "fastapi_offline": Allowed(("pelton.servers",)),
    "starlette": Allowed(("pelton.servers",)),
    "uvicorn": Allowed(("pelton.servers",)),
    "typer": Allowed(("pelton.cli",)),
    "rich": Allowed(("pelton.cli",)),
    "pytest": Allowed(("pelton.testing",)),
}
"""Every library that Pelton imports; one that is not here may not be imported at all."""

PURE = ("pelton.wire", "pelton.batching", "pelton.routing")
"""Rooms that turn values into values; they wait for nothing, and no clock or peer sways them."""

NOT_IN_PURE = {"asyncio", "selectors", "socket", "ssl", "subprocess", "threading", "time"}


def _inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def library_faults(tree: SourceTree) -> list[str]:
    """List imports of libraries where the table does not allow them."""
    return [
        str(found)
        for found in tree.imports()
        if (library := _library(found.target))
        and not (library in LIBRARIES and _inside(found.importer, LIBRARIES[library].modules))
    ]


def _library(target: str) -> str | None:
    name = target.split(".")[0]
    return None if name == "pelton" or name in sys.stdlib_module_names else name


def on_demand_faults(tree: SourceTree) -> list[str]:
    """List imports by which a library would be loaded before a model asks for it."""
    imports = tree.imports()
    return [
        f"{found}, and so {library}, before a model asks for it"
        for library, allowed in LIBRARIES.items()
        if allowed.on_demand
        for found in imports
        if found.at_start
        and _inside(found.target, allowed.modules)
        and not _inside(found.importer, allowed.modules)
    ]


def purity_faults(tree: SourceTree) -> list[str]:
    """List imports by which a pure room would know of time or of other parties."""
    return [
        str(found)
        for found in tree.imports()
        if _inside(found.importer, PURE) and found.target.split(".")[0] in NOT_IN_PURE
    ]


@pytest.mark.parametrize("rule", [library_faults, on_demand_faults, purity_faults])
def test_pelton_keeps(rule) -> None:
    assert rule(pelton_tree()) == []


def test_every_library_in_the_table_is_used_where_it_says() -> None:
    tree = pelton_tree()
    used = {(found.importer, found.target.split(".")[0]) for found in tree.imports()}
    for library, allowed in LIBRARIES.items():
        for place in allowed.modules:
            assert any(
                name == library and _inside(importer, (place,)) for importer, name in used
            ), f"{place} does not import {library}; take it from the table"


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("engine/a.py", "import fastapi"),
        ("wire/a.py", "def f():\n    import numba"),  # not in the table at all
        ("engine/a.py", "if TYPE_CHECKING:\n    from torch import Tensor"),
        ("runtimes/torches.py", "import torch"),  # a name that only begins alike
        ("cli/a.py", "__import__('torch')"),
    ],
)
def test_a_library_out_of_place_is_found(tmp_path: Path, importer: str, source: str) -> None:
    (fault,) = library_faults(write_tree(tmp_path, {importer: source}))
    assert fault.startswith(f"pelton/{importer}:")


def test_a_library_in_its_place_is_fine(tmp_path: Path) -> None:
    files = {
        "runtimes/torch/script.py": "import torch.jit",
        "servers/control/routes.py": "from fastapi import FastAPI",
        "wire/a.py": "import math\nimport numpy as np",
    }
    assert library_faults(write_tree(tmp_path, files)) == []


def test_a_library_that_would_not_wait_for_a_model_is_found(tmp_path: Path) -> None:
    files = {
        "runtimes/torch/script.py": "from pelton.runtimes.torch import program",
        "runtimes/torch/program.py": "import torch",
        "runtimes/patient.py": "def f():\n    from pelton.runtimes.torch.script import load",
        "runtimes/hasty.py": "from pelton.runtimes.torch.script import load",
    }
    (fault,) = on_demand_faults(write_tree(tmp_path, files))
    assert fault.startswith("pelton/runtimes/hasty.py:1:")


@pytest.mark.parametrize("room", ["wire", "batching", "routing"])
@pytest.mark.parametrize("banned", sorted(NOT_IN_PURE))
def test_time_and_peers_in_a_pure_room_are_found(tmp_path: Path, room: str, banned: str) -> None:
    files = {
        f"{room}/a.py": f"def f():\n    from {banned} import x",
        "engine/a.py": f"import {banned}",
    }
    (fault,) = purity_faults(write_tree(tmp_path, files))
    assert fault == f"pelton/{room}/a.py:2: pelton.{room}.a imports {banned}"
