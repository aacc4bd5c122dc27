"""Who may import whom: the rooms, their order, and the two sides that never meet.

    words < wire batching routing runtimes repository monitoring state access caching trusted
          < engine client < servers < lifecycle < settings < app < cli

A file imports from its own room and from lower layers; rooms of one layer never import each other.
What a room needs from beside it is handed in: a record of the words, or a plain callable. `testing`
may import anything and nothing imports it. No import cycle exists, lazy imports included.
"""

from __future__ import annotations

import graphlib
from pathlib import Path

import pytest

from rules.source_tree import Import, SourceTree, pelton_tree, write_tree

LAYERS: tuple[tuple[str, ...], ...] = (
    ("words",),
    (
        "wire",
        "batching",
        "routing",
        "runtimes",
        "repository",
        "monitoring",
        "state",
        "access",
        "caching",
        "trusted",
    ),
    ("engine", "client"),
    ("servers",),
    ("lifecycle",),
    ("settings",),
    ("app",),
    ("cli",),
)

ROOM_OF_FILE = {
    "errors": "words",
    "tensors": "words",
    "bfloat16": "words",
    "specs": "words",
    "messages": "words",
    "records": "words",
    "clock": "words",
    "time_slices": "words",
    "arena": "words",
    "own_paths": "words",
    "buffers": "words",
    "setting_values": "settings",
    "settings_docs": "settings",
    "serving_plan": "app",
    "keeping": "app",
    "loading": "app",
    "result_cache": "app",
    "signed_objects": "app",
    "stats": "app",
    "traffic": "app",
    "__main__": "cli",
}
"""The room of a file that stands beside the rooms; any other name is a room of its own."""

MAY_IMPORT_ROOT = {"servers", "app", "cli", "testing"}
"""Who may ask the package itself for its version."""

REQUESTS_WAY = {"wire", "batching", "engine", "servers"}
NOT_ON_THE_WAY = {"monitoring", "repository", "state"}
"""What a request passes, and what is only handed to it as plain callables and protocols."""

RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}


def room_of(module: str) -> str:
    """Name the room of a module of Pelton; the package itself is the room `pelton`."""
    parts = module.split(".")
    return "pelton" if len(parts) == 1 else ROOM_OF_FILE.get(parts[1], parts[1])


def layer_faults(tree: SourceTree) -> list[str]:
    """List modules without a layer, and imports against the order of the layers."""
    known = {*RANK, "pelton", "testing"}
    unknown = [
        f"{module.path}: the room `{room_of(name)}` has no layer"
        for name, module in tree.modules.items()
        if room_of(name) not in known
    ]
    own = [found for found in tree.imports() if found.target.split(".")[0] == "pelton"]
    return unknown + [str(found) for found in own if not _allowed(found)]


def _allowed(found: Import) -> bool:
    importer, target = room_of(found.importer), room_of(found.target)
    if importer == target or importer == "testing":
        return True
    if importer == "pelton":
        return target == "words" or (target == "client" and not found.at_start)
    if target == "pelton":
        return importer in MAY_IMPORT_ROOT
    if target not in RANK or importer not in RANK:
        return False
    return RANK[target] < RANK[importer]


def request_way_faults(tree: SourceTree) -> list[str]:
    """List imports by which a request's way would reach what is only handed to it."""
    return [
        str(found)
        for found in tree.imports()
        if found.target.startswith("pelton.")
        and room_of(found.importer) in REQUESTS_WAY
        and room_of(found.target) in NOT_ON_THE_WAY
    ]


def cycle_faults(tree: SourceTree) -> list[str]:
    """Name one cycle of imports, if there is any."""
    graph: dict[str, set[str]] = {name: set() for name in tree.modules}
    for found in tree.imports():
        if found.target in graph and found.target != found.importer:
            graph[found.importer].add(found.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" <- ".join(error.args[1])]
    return []


@pytest.mark.parametrize("rule", [layer_faults, request_way_faults, cycle_faults])
def test_pelton_keeps(rule) -> None:
    assert rule(pelton_tree()) == []


def test_every_named_room_and_file_exists() -> None:
    rooms = {room_of(name) for name in pelton_tree().modules}
    assert rooms == {*RANK, "pelton", "testing"}
    stems = {name.split(".")[1] for name in pelton_tree().modules if "." in name}
    assert set(ROOM_OF_FILE) <= stems


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("errors.py", "from pelton.wire import a"),  # up
        ("wire/b.py", "import pelton.engine.a"),  # up
        ("wire/b.py", "def f():\n    from pelton.runtimes import a"),  # sideways, lazily
        ("access/b.py", "from pelton.state import a"),  # sideways: keys are handed in
        ("engine/b.py", "if TYPE_CHECKING:\n    from pelton.client.a import A"),  # sideways, typing
        ("repository/b.py", "from ..runtimes import a"),  # sideways, relative
        ("batching/b.py", "from pelton.wire import a"),
        ("servers/b.py", "importlib.import_module('pelton.cli.a')"),  # up, by call
        ("servers/b.py", "from pelton.settings import Settings"),
        ("settings.py", "from pelton.app import build"),
        ("app.py", "from pelton.cli import a"),
        ("engine/b.py", "from pelton.testing import a"),
        ("wire/b.py", "from pelton import __version__"),
        ("__init__.py", "from pelton.client import a"),  # at start
        ("__init__.py", "def f():\n    from pelton.engine import a"),
        ("attic/b.py", ""),  # a room that nobody placed
    ],
)
def test_an_import_against_the_order_is_found(tmp_path: Path, importer: str, source: str) -> None:
    rooms = ("wire", "runtimes", "repository", "state", "engine", "client", "cli", "testing")
    files = {f"{room}/a.py": "" for room in rooms}
    files |= {"settings.py": "", "app.py": "", importer: source}
    faults = layer_faults(write_tree(tmp_path, files))
    assert len(faults) == 1
    assert faults[0].startswith(f"pelton/{importer}:")


def test_imports_downwards_are_free(tmp_path: Path) -> None:
    files = {
        "errors.py": "import enum",
        "wire/a.py": "from pelton import errors",
        "engine/a.py": "from pelton.wire import a",
        "client/a.py": "from pelton.wire.a import x\nfrom . import b",
        "client/b.py": "",
        "servers/a.py": "from pelton.engine.a import x\nfrom pelton import __version__",
        "cli/a.py": "from pelton.servers import a",
        "testing/a.py": "from pelton.cli import a",
        "__init__.py": "def __getattr__(name):\n    from pelton.client import a",
    }
    assert layer_faults(write_tree(tmp_path, files)) == []


@pytest.mark.parametrize("room", sorted(REQUESTS_WAY))
@pytest.mark.parametrize("target", sorted(NOT_ON_THE_WAY))
def test_a_request_that_meets_what_is_handed_in_is_found(
    tmp_path: Path, room: str, target: str
) -> None:
    files = {f"{room}/a.py": f"from pelton.{target} import a", f"{target}/a.py": ""}
    faults = request_way_faults(write_tree(tmp_path, files))
    assert faults == [f"pelton/{room}/a.py:1: pelton.{room}.a imports pelton.{target}.a"]


def test_a_cycle_is_found_even_through_a_lazy_import(tmp_path: Path) -> None:
    files = {
        "wire/a.py": "from pelton.wire import b",
        "wire/b.py": "from pelton.wire import c",
        "wire/c.py": "def f():\n    from pelton.wire import a",
    }
    (fault,) = cycle_faults(write_tree(tmp_path, files))
    assert {"pelton.wire.a", "pelton.wire.b", "pelton.wire.c"} <= set(fault.split(" <- "))
