from __future__ import annotations

import logging
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.errors import LoadFailed
from pelton.runtimes.contract import LoadedModel, RuntimeOptions
from pelton.runtimes.python.model import load
from pelton.specs import ModelSpec
from runtimes.python_folders import PAIR, X, answer, opened, written


def refusal(folder: Path, code: str | dict[str, str], **spec: Any) -> str:
    with pytest.raises(LoadFailed) as error:
        opened(folder, code, **spec)
    return error.value.message


# The two forms of a model.


def test_a_pair_of_functions(tmp_path: Path) -> None:
    model = opened(tmp_path, PAIR)
    assert model.run({"x": X})["output"].tolist() == [3, 6]
    told = model.metadata
    assert (told.platform, told.model_type, told.device) == ("python", "Python", "cuda:7")
    assert told.takes_objects
    assert (told.parameters, told.trainable_parameters) == (None, None)
    assert told.size_bytes == (tmp_path / "model.py").stat().st_size
    assert (model.concurrent, model.quick) == (False, False)


def test_a_pair_is_told_folder_and_device_and_may_hand_on_its_model(tmp_path: Path) -> None:
    code = """
        def load_model(model_path, device):
            return {"path": model_path, "device": device}

        def model_inference(model, obs):
            return {**model, **obs}
    """
    assert answer(tmp_path, code, {"a": 1}) == {
        "path": str(tmp_path),
        "device": "cuda:7",
        "a": 1,
    }


def test_an_optional_second_argument_is_left_alone(tmp_path: Path) -> None:
    code = """
        def load_model(model_path, device): return 5
        def model_inference(obs, temperature=0.5): return temperature
    """
    assert answer(tmp_path, code, {"a": 1}) == {"output": 0.5}


def test_a_class(tmp_path: Path) -> None:
    code = """
        from pathlib import PurePath  # a class, but not this file's

        class Policy:
            def load(self, path, device):
                self.told = [PurePath(path).name, device]

            def predict(self, inputs):
                return {"told": self.told, "sum": inputs["x"].sum()}
    """
    model = opened(tmp_path / "policy", code)
    given = model.run({"x": X})
    assert given["told"] == ["policy", "cuda:7"]
    assert (given["sum"].dtype, given["sum"].item()) == (np.float32, 3.0)
    assert model.metadata.model_type == "Policy"


def test_several_classes_are_refused(tmp_path: Path) -> None:
    one = "class {}:\n    def load(self, p, d): pass\n    def predict(self, i): pass\n"
    said = refusal(tmp_path, one.format("A") + one.format("B"))
    assert said == "model.py holds several classes with load and predict (A, B); keep one"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1", "model.py holds no model: it must hold the functions load_model"),
        ("def load_model(p, d): pass", "model.py holds no model"),
        (
            "def load_model(path): pass\ndef model_inference(obs): pass",
            "model.py must define load_model(model_path, device), with these arguments",
        ),
        (
            "def load_model(p, d): pass\ndef model_inference(): pass",
            "model.py must define model_inference(obs), with these arguments",
        ),
        (
            "def load_model(p, d): pass\ndef model_inference(a, b, c): pass",
            "model.py must define model_inference(obs), with these arguments",
        ),
        (
            "def load_model(p, d): pass\nasync def model_inference(obs): pass",
            "model_inference(obs) in model.py is async; it must be a plain function",
        ),
        (
            "class A:\n    def load(self): pass\n    def predict(self, i): pass",
            "model.py must define load(path, device), with these arguments",
        ),
    ],
)
def test_an_incomplete_model_is_refused(tmp_path: Path, code: str, said: str) -> None:
    assert refusal(tmp_path, code).startswith(said)


def test_a_folder_without_model_py_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"there is no model.py in empty; it must hold"):
        opened(tmp_path / "empty", {"other.py": ""})


# Errors in the user's code.


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"model.py": "import math\n\nraise ValueError('no\\nweights')"},
            "model.py line 3 raised ValueError: no weights",
        ),
        ({"model.py": "def f(:\n"}, "model.py line 1 raised SyntaxError: "),
        (
            {"model.py": "import own\n", "own.py": "\n\n1 / 0\n"},
            "own.py line 3 raised ZeroDivisionError: division by zero",
        ),
        (
            {"model.py": "import own\n", "own.py": "\nx = = 1\n"},
            "own.py line 2 raised SyntaxError: ",
        ),
        (
            {"model.py": "import no_such_package"},
            "model.py line 1 raised ModuleNotFoundError: No module named 'no_such_package'; "
            "install it into the server's environment",
        ),
        ({"model.py": "raise SystemExit"}, "model.py line 1 raised SystemExit"),
        ({"model.py": "import sys\nsys.exit('bye')"}, "model.py line 2 raised SystemExit: bye"),
        (
            {"model.py": PAIR + "    load_model = lambda p, d: open(p + '/gone')\n"},
            "model.py line 8 raised FileNotFoundError: [Errno 2] No such file or directory: 'gone'",
        ),
        (
            {"model.py": PAIR + "    load_model = lambda p, d: open(p.rpartition('/')[0])\n"},
            "model.py line 8 raised IsADirectoryError: [Errno 21] Is a directory: '.../",
        ),
        (
            {"model.py": "import os\nraise ValueError(os.path.dirname(__file__) + ':/etc/x')"},
            "model.py line 2 raised ValueError: .../",
        ),
    ],
)
def test_an_error_while_loading_is_told_with_its_line(
    tmp_path: Path, files: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(sys.modules)
    with caplog.at_level(logging.DEBUG, "pelton.runtimes"):
        message = refusal(tmp_path, files)
    assert message.startswith(said)
    assert str(tmp_path) not in message
    assert "Traceback" in caplog.text
    assert set(sys.modules) == before


def test_a_long_message_is_cut(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, "raise ValueError('x' * 10_000)")) < 300


def test_an_interrupt_by_the_users_code_ends_no_thread_of_the_server(tmp_path: Path) -> None:
    written(tmp_path, {"model.py": "raise KeyboardInterrupt"})
    said = []

    def work() -> None:
        try:
            load(ModelSpec("m", 1, tmp_path, "python"), RuntimeOptions())
        except LoadFailed as error:
            said.append(error.message)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["model.py line 1 raised KeyboardInterrupt"]
    with pytest.raises(KeyboardInterrupt):  # in the main thread it may be somebody's Ctrl-C
        load(ModelSpec("m", 1, tmp_path, "python"), RuntimeOptions())


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
def test_a_run_cannot_end_the_server(tmp_path: Path, name: str) -> None:
    code = f"""
        def load_model(model_path, device): pass
        def model_inference(obs):
            if obs: raise {name}
            return 1
    """
    model = opened(tmp_path, code)
    with pytest.raises(RuntimeError, match=f"model.py raised {name}"):
        model.run({"a": 1})
    assert model.run({}) == {"output": 1}


def test_an_error_in_a_run_arrives_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="x"):
        answer(tmp_path, PAIR, {})


# Modules beside model.py.


def two_models(folder: Path) -> tuple[LoadedModel, LoadedModel]:
    models = []
    for number in (1, 2):
        files = {
            "model.py": """
                import shared
                import parts.inner

                def load_model(model_path, device): pass
                def model_inference(obs): return [shared.NUMBER, parts.inner.NUMBER]
            """,
            "shared.py": f"NUMBER = {number}",
            "parts/__init__.py": "from . import inner",
            "parts/inner.py": f"import shared\nNUMBER = 10 * shared.NUMBER + {number}",
        }
        models.append(opened(folder / str(number), files))
    return models[0], models[1]


def test_models_with_modules_of_the_same_names_do_not_mix(tmp_path: Path) -> None:
    first, second = two_models(tmp_path)
    assert first.run({}) == {"output": [1, 11]}
    assert second.run({}) == {"output": [2, 22]}
    assert first.run({}) == {"output": [1, 11]}


def test_loading_leaves_no_trace(tmp_path: Path) -> None:
    marker = type(sys)("shared")
    sys.modules["shared"] = marker
    before, path, bytecode = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    try:
        for model in two_models(tmp_path):
            model.close()
        assert sys.modules["shared"] is marker
    finally:
        del sys.modules["shared"]
    assert set(sys.modules) == before - {"shared"}
    assert (sys.path, sys.dont_write_bytecode) == (path, bytecode)
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_named_like_one_of_python_stays_with_the_model(tmp_path: Path) -> None:
    import json

    files = {
        "model.py": "import json, antigravity\n"
        "def load_model(p, d): pass\n"
        "def model_inference(obs): return [json.dumps(1), antigravity.MINE]\n",
        "json.py": "dumps = None",
        "antigravity.py": "MINE = True",
    }
    assert "antigravity" not in sys.modules
    assert opened(tmp_path, files).run({}) == {"output": ["1", True]}
    assert sys.modules["json"] is json
    assert "antigravity" not in sys.modules


def test_a_class_of_model_py_can_be_a_dataclass(tmp_path: Path) -> None:
    code = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Model:
            factor: int = 4
            def load(self, path, device): pass
            def predict(self, inputs): return self.factor
    """
    assert answer(tmp_path, code, {}) == {"output": 4}


# Options.


@pytest.mark.parametrize(
    ("line", "options", "expected"),
    [
        ("concurrent = True", {}, True),
        ("concurrent = True", {"concurrent": False}, False),
        ("concurrent = 1", {}, False),
        ("", {"concurrent": True}, True),
        ("", {}, False),
    ],
)
def test_the_author_says_whether_threads_may_share_the_model(
    tmp_path: Path, line: str, options: dict[str, Any], expected: bool
) -> None:
    code = textwrap.dedent(PAIR) + line
    assert opened(tmp_path, code, options=options).concurrent is expected


def test_the_device_of_model_toml_comes_first(tmp_path: Path) -> None:
    model = opened(tmp_path, PAIR, options={"device": "mps"})
    assert model.metadata.device == "mps"


# Deterministic mode.

DICE = """
    import random
    import numpy as np

    def load_model(model_path, device): pass

    def model_inference(obs):
        return {"python": random.random(), "numpy": np.random.rand(), "torch": draw()}

    def draw():
        import sys
        return float(sys.modules["torch"].rand(1)) if "torch" in sys.modules else 0.0
"""


@pytest.mark.parametrize("deterministic", [True, False])
def test_each_run_begins_with_the_same_random_numbers(tmp_path: Path, deterministic: bool) -> None:
    pytest.importorskip("torch")
    folder = written(tmp_path, {"model.py": DICE})
    options = RuntimeOptions(deterministic=deterministic)
    model = load(ModelSpec("m", 1, folder, "python"), options)
    first, second = (model.run({}) for _ in range(2))
    for name in ("python", "numpy", "torch"):
        assert (first[name] == second[name]) is deterministic
