"""A package's source as data: its modules and who imports whom, read without running anything.

Every way to import counts: at the top of a file, inside a function, under `TYPE_CHECKING`, and by
`importlib.import_module("...")`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted name; a package has the name of its folder.
        path: the file, relative to the folder that holds the package.
        text: its source.
        tree: its syntax tree.
    """

    name: str
    path: Path
    text: str
    tree: ast.Module


@dataclass(frozen=True)
class Import:
    """One import of one module.

    Attributes:
        importer: dotted name of the importing module.
        target: dotted name of what is imported; the module itself where a name in it is imported.
        where: file and line, for messages.
        at_start: whether importing the importer imports the target.
    """

    importer: str
    target: str
    where: str
    at_start: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.importer} imports {self.target}"


@dataclass(frozen=True)
class SourceTree:
    """All modules of a package, by dotted name."""

    modules: Mapping[str, Module]

    def imports(self) -> list[Import]:
        return [found for module in self.modules.values() for found in _imports(module, self)]


def read_tree(package: Path) -> SourceTree:
    """Read every Python file below a package's folder."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package.parent)
        parts = relative.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, relative, text, ast.parse(text))
    return SourceTree(modules)


def pelton_tree() -> SourceTree:
    return read_tree(REPOSITORY / "src" / "pelton")


def write_tree(folder: Path, files: Mapping[str, str]) -> SourceTree:
    """Write a small package `pelton` for a rule to find fault with, and read it."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "pelton" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_tree(folder / "pelton")


def functions(module: Module) -> Iterator[tuple[str, Function]]:
    """Yield every function and method with its name as `Class.method` or `outer.inner`."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield prefix + child.name, child
            named = isinstance(child, Function | ast.ClassDef)
            yield from walk(child, f"{prefix}{child.name}." if named else prefix)

    return walk(module.tree, "")


def _imports(module: Module, tree: SourceTree) -> Iterator[Import]:
    def found(target: str, line: int, at_start: bool) -> Import:
        return Import(module.name, target, f"{module.path}:{line}", at_start)

    for node, at_start in _walk(module.tree, at_start=True):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield found(alias.name, node.lineno, at_start)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield found(inner if inner in tree.modules else base, node.lineno, at_start)
        elif (target := _imported_by_call(node)) is not None:
            yield found(target, node.lineno, at_start)


def _walk(node: ast.AST, at_start: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node below, and whether it runs when the file is imported."""
    for child in ast.iter_child_nodes(node):
        yield child, at_start
        deferred = isinstance(child, Function | ast.Lambda) or _is_type_checking(child)
        yield from _walk(child, at_start and not deferred)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    is_package = module.path.name == "__init__.py"
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def _imported_by_call(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call) or not node.args:
        return None
    first = node.args[0]
    called = ast.unparse(node.func).rsplit(".", 1)[-1]
    if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
        return first.value if isinstance(first.value, str) else None
    return None
