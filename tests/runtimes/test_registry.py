from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pelton.errors import LoadFailed
from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.extras import needs
from pelton.runtimes.registry import RuntimePlugin, by_name
from pelton.specs import ModelSpec
from pelton.testing import EchoRuntime


def load_echo(spec: ModelSpec, options: RuntimeOptions) -> EchoRuntime:
    return EchoRuntime()


PLUGIN = RuntimePlugin("mine", (".MINE",), load_echo)


class Entry:
    """As much of an entry point as the registry uses."""

    name = "mine"
    value = "my_package:plugin"

    def __init__(self, loads: Any) -> None:
        self._loads = loads

    def load(self) -> Any:
        if isinstance(self._loads, Exception):
            raise self._loads
        return self._loads


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def install(*loads: Any) -> None:
        def entry_points(*, group: str) -> list[Entry]:
            assert group == "pelton.runtimes"
            return [Entry(one) for one in loads]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        registry.runtimes.cache_clear()

    yield install
    registry.runtimes.cache_clear()


def spec(runtime: str) -> ModelSpec:
    return ModelSpec("m", 1, Path("m.mine"), runtime)


def test_the_built_in_runtimes_claim_their_files() -> None:
    assert registry.claims() == {
        ".onnx": "onnx",
        ".pt2": "torch",
        ".pt": "torch",
        ".pth": "torch",
        ".ts": "torch",
        ".torchscript": "torch",
        "model.py": "python",
    }


def test_a_package_becomes_a_runtime(install: Any) -> None:
    install(PLUGIN)
    assert registry.claims()[".mine"] == "mine"
    assert isinstance(registry.load(spec("mine"), RuntimeOptions()), EchoRuntime)


def test_entry_points_are_looked_up_once(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(PLUGIN)
    first = registry.runtimes()
    monkeypatch.delattr(importlib.metadata, "entry_points")
    assert registry.runtimes() is first


def test_an_unknown_runtime_is_named_with_its_nearest() -> None:
    with pytest.raises(LoadFailed, match="unknown runtime 'onxx'; did you mean 'onnx'"):
        registry.load(spec("onxx"), RuntimeOptions())
    with pytest.raises(LoadFailed, match="known are onnx, torch, python"):
        registry.load(spec("?"), RuntimeOptions())


def test_a_duplicate_name_is_refused() -> None:
    with pytest.raises(LoadFailed, match="two runtimes are called 'mine'"):
        by_name([PLUGIN, RuntimePlugin("mine", (), load_echo)])


def test_a_file_claimed_twice_is_refused() -> None:
    with pytest.raises(LoadFailed, match=r"'mine' and 'other' both claim \.mine files"):
        by_name([PLUGIN, RuntimePlugin("other", (".mine",), load_echo)])


def test_a_plug_in_that_cannot_be_imported_is_named(install: Any) -> None:
    install(ImportError("no libmine.so"))
    with pytest.raises(LoadFailed, match=r"'mine' \(my_package:plugin\).*ImportError: no libmine"):
        registry.runtimes()


def test_a_plug_in_of_another_type_is_refused(install: Any) -> None:
    install(load_echo)
    with pytest.raises(LoadFailed, match=r"is a function; it must be a .*RuntimePlugin"):
        registry.runtimes()


@pytest.mark.parametrize(
    ("runtime", "package", "extra"),
    [("onnx", "onnxruntime", "server"), ("torch", "torch", "torch")],
)
def test_a_missing_framework_is_told_with_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, runtime: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LoadFailed) as refusal:
        registry.load(spec(runtime), RuntimeOptions())
    assert refusal.value.message == (
        f"{package} is not installed; install it: pip install 'pelton[{extra}]'"
    )


@pytest.mark.parametrize("error", [ImportError, OSError])
def test_a_broken_framework_is_told(error: type[Exception]) -> None:
    said = r"torch is installed but cannot be imported: libx\.so"
    with pytest.raises(LoadFailed, match=said), needs("torch", "torch"):
        raise error("libx.so: no such file")


def test_what_a_framework_itself_misses_is_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError), needs("torch", "torch"):
        raise ModuleNotFoundError("no sympy", name="sympy")


def test_looking_for_models_imports_no_framework() -> None:
    code = (
        "import sys\n"
        "from pelton.runtimes import registry\n"
        "from pelton.repository.scan import scan\n"
        "import pelton.runtimes.onnx.model, pelton.runtimes.torch.model\n"
        "import pelton.runtimes.python.model\n"
        "registry.claims()\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "pelton" in imported
    assert imported & {"torch", "onnxruntime", "onnx", "fastapi", "scipy"} == set()
