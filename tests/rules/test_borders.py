"""Broad `except` stands only at the borders where foreign code or a stranger's bytes come in.

Anywhere else it would turn a mistake of ours into silence. A handler that puts things in order and
raises again hides nothing, and is not counted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rules.source_tree import Module, SourceTree, functions, pelton_tree, write_tree

BROAD = {"Exception", "BaseException"}


@dataclass(frozen=True)
class Border:
    """A function that may catch everything.

    Attributes:
        file: the file below `src/pelton`.
        function: its name, as `Class.method` for a method.
        reason: what foreign thing is met there.
    """

    file: str
    function: str
    reason: str


BORDERS = (
    Border(
        "access/redaction.py", "RedactSecrets.filter", "an argument's __str__ may raise anything"
    ),
    Border("caching/redis_store.py", "RedisStore._tried", "a Redis that is unwell costs only hits"),
    Border("caching/redis_store.py", "RedisStore.check", "a Redis that is unwell costs only hits"),
    Border("engine/batch.py", "Batch._attempt", "what instances and odd outputs break is told"),
    Border("engine/guard.py", "guarded", "a model's own code may raise anything"),
    Border("engine/workers.py", "Workers._perform", "what a call raises belongs to its caller"),
    Border("lifecycle/keeper_watch.py", "FolderWatch._tell", "a model's files may break anything"),
    Border("lifecycle/keeper_watch.py", "FolderWatch.run", "so may the folder around them"),
    Border("lifecycle/residency.py", "Residency._unload", "a model's own close may raise anything"),
    Border("lifecycle/threaded_load.py", "_load", "what a load raises belongs to its caller"),
    Border("loading.py", "Loader._settle_all", "what a load raises belongs to its caller"),
    Border("runtimes/onnx/session.py", "_session", "onnxruntime's errors share no base class"),
    Border("runtimes/process/single_use_worker.py", "_answer", "object and model are foreign code"),
    Border("runtimes/process/worker.py", "_answer", "a model's own code may raise anything"),
    Border("runtimes/process/worker.py", "_warm_up", "a warm-up that fails is no harm"),
    Border("runtimes/python/model.py", "_run_author", "a user's model.py may raise anything"),
    Border("runtimes/registry.py", "_installed", "a plug-in of another package is imported"),
    Border("client/signed_calls.py", "_pickled", "an object's own __reduce__ may raise anything"),
    Border("runtimes/torch/exported.py", "_refuse_pickles", "PyTorch judges a stranger's bytes"),
    Border("runtimes/torch/model.py", "_program", "PyTorch meets a broken archive"),
    Border("servers/connections.py", "Connections._sweep", "one connection, every deadline"),
    Border("servers/inference.py", "InferenceDoor.answer", "one request must not end the others"),
)


def broad_excepts(tree: SourceTree) -> list[tuple[str, str]]:
    """List (file below the package, innermost function) of everything that catches everything."""
    found = []
    for module in tree.modules.values():
        file = Path(*module.path.parts[1:]).as_posix()
        owners = {
            inner: name  # an inner function comes after its outer one and takes its lines over
            for name, function in functions(module)
            for inner in ast.walk(function)
        }
        found += [(file, owners.get(node, "")) for node in _broad_nodes(module)]
    return found


def _broad_nodes(module: Module) -> Iterator[ast.AST]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            if (node.type is None or _is_broad(node.type)) and not _raises_again(node):
                yield node
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            yield from (node for argument in node.args if _is_broad(argument))


def _is_broad(caught: ast.expr) -> bool:
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(ast.unparse(name).rpartition(".")[2] in BROAD for name in names)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    leaves = any(isinstance(node, ast.Return) for node in ast.walk(handler))
    return isinstance(last, ast.Raise) and last.exc is None and not leaves


def test_everything_is_caught_only_at_the_listed_borders() -> None:
    listed = {(border.file, border.function) for border in BORDERS}
    assert set(broad_excepts(pelton_tree())) == listed


def test_every_border_has_one_row_and_a_reason() -> None:
    assert len({(border.file, border.function) for border in BORDERS}) == len(BORDERS)
    assert all(len(border.reason.split()) >= 3 for border in BORDERS)


@pytest.mark.parametrize(
    "catch",
    [
        "try: ...\n    except Exception: ...",
        "try: ...\n    except BaseException as error: ...",
        "try: ...\n    except: ...",
        "try: ...\n    except (ValueError, Exception): ...",
        "try: ...\n    except builtins.Exception: ...",
        "try: ...\n    except* Exception: ...",
        "try: ...\n    except Exception:\n        if x: return\n        raise",
        "try: ...\n    except Exception:\n        raise ValueError",
        "with suppress(Exception): ...",
        "with contextlib.suppress(KeyError, BaseException): ...",
    ],
)
def test_a_broad_except_is_found(tmp_path: Path, catch: str) -> None:
    tree = write_tree(tmp_path, {"wire/a.py": f"def f():\n    {catch}\n"})
    assert broad_excepts(tree) == [("wire/a.py", "f")]


def test_a_handler_that_raises_again_is_fine(tmp_path: Path) -> None:
    source = "def f():\n    try: ...\n    except BaseException:\n        close()\n        raise\n"
    assert broad_excepts(write_tree(tmp_path, {"wire/a.py": source})) == []


def test_a_broad_except_belongs_to_the_innermost_function(tmp_path: Path) -> None:
    source = (
        "class A:\n"
        "    def outer(self):\n"
        "        def inner():\n"
        "            try: ...\n"
        "            except Exception: ...\n"
        "        try: ...\n"
        "        except KeyError: ...\n"
        "try: ...\n"
        "except Exception: ...\n"
    )
    assert broad_excepts(write_tree(tmp_path, {"a.py": source})) == [
        ("a.py", ""),
        ("a.py", "A.outer.inner"),
    ]
