"""The settings of signed objects, as they reach the workers; and these together with a model."""

from __future__ import annotations

import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pelton import signed_objects
from pelton.engine.model import Model
from pelton.errors import LoadFailed, PeltonError, SettingsError
from pelton.loading import Loader
from pelton.messages import InferRequest
from pelton.repository.scan import scan
from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions, Stop
from pelton.runtimes.process.confinement import Bounds
from pelton.runtimes.process.single_use import SingleUseTerms
from pelton.settings import Settings, load_settings
from pelton.signed_objects import signed_starter
from pelton.specs import ModelSpec, Serving
from support_server import until, write_identity, write_python_model

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux namespaces")

MODEL = """
def load_model(path, device): pass
def model_inference(obs): return str(obs["x"])
"""
BROKEN = """
import os
def load_model(path, device):
    if os.getpid() == 1:  # shut off
        raise OSError("no network")
def model_inference(obs): return 1
"""


def settings_of(folder: Path, **more: Any) -> Settings:
    lines = {"allow_unsafe_pickle": True, "trusted_keys_file": str(folder / "signing/keys.toml")}
    lines |= {"state_dir": str(folder / "state")} | more
    file = folder / "pelton.toml"
    written = [
        f"{name} = {str(value).lower() if value is True else repr(value)}\n"
        for name, value in lines.items()
        if value is not None
    ]
    file.write_text("".join(written))
    return load_settings({}, {}, file)


class Started:
    """Stands for the workers, and notes how they were to be run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.terms: SingleUseTerms | None = None
        monkeypatch.setattr(signed_objects, "SingleUse", self)

    def __call__(self, spec: ModelSpec, options: RuntimeOptions, terms: SingleUseTerms) -> Any:
        self.terms = terms
        return self

    def start(self) -> None: ...
    def give_up(self) -> None: ...


def terms_of(settings: Settings, monkeypatch: pytest.MonkeyPatch, folder: Path) -> SingleUseTerms:
    started = Started(monkeypatch)
    start = signed_starter(settings, time.monotonic)
    start(ModelSpec("m", 1, folder, "python"), RuntimeOptions(), 1.0, Stop())
    assert started.terms is not None
    return started.terms


def test_the_workers_are_run_as_was_set(tmp_path: Path, monkeypatch) -> None:
    more = {"trusted_time_limit_s": "4s", "trusted_cpu_s": 3, "trusted_memory_bytes": 0}
    more |= {"trusted_most_at_once": 7, "load_timeout_s": 9}
    terms = terms_of(settings_of(tmp_path, **more), monkeypatch, tmp_path / "m")
    assert terms.bounds == Bounds(cpu_s=3, memory_bytes=0)
    assert (terms.time_limit_s, terms.load_timeout_s, terms.most_at_once) == (4.0, 9.0, 7)


def test_what_is_secret_is_hidden_from_them(tmp_path: Path, monkeypatch) -> None:
    real = tmp_path / "archive"
    real.mkdir()
    (real / "key3.pem").touch()
    (tmp_path / "live").mkdir()
    (tmp_path / "live/key.pem").symlink_to(real / "key3.pem")
    more = {"uds": str(tmp_path / "pelton.sock"), "tls_certificate": "cert.pem"}
    more |= {"tls_key": str(tmp_path / "live/key.pem")}
    hidden = terms_of(settings_of(tmp_path, **more), monkeypatch, tmp_path / "m").hidden
    names = ("state", "signing", "live", "archive", "pelton.sock", "pelton.toml")
    assert set(hidden) == {str(tmp_path / name) for name in names}


def test_a_key_in_the_certificates_file_is_hidden_too(tmp_path: Path, monkeypatch) -> None:
    settings = settings_of(tmp_path, tls_certificate=str(tmp_path / "tls/both.pem"))
    assert str(tmp_path / "tls") in terms_of(settings, monkeypatch, tmp_path / "m").hidden


def test_keys_have_to_be_kept_somewhere(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set state_dir to a folder"):
        signed_starter(settings_of(tmp_path, state_dir=None), time.monotonic)
    database = settings_of(tmp_path, state_dir=None, database_url="postgresql://here/pelton")
    assert signed_starter(database, time.monotonic)


def loader_of(folder: Path) -> Loader:
    loader = Loader(Serving(), RuntimeOptions(), 1 << 20, time.monotonic)
    loader.start_signed = signed_starter(settings_of(folder), time.monotonic)
    return loader


def loaded(folder: Path, model: Path) -> Model:
    (spec,) = scan(model, registry.claims())
    return loader_of(folder).load_one(spec)


@linux
async def test_a_model_that_takes_objects_takes_signed_ones(tmp_path: Path) -> None:
    model = loaded(tmp_path, write_python_model(tmp_path / "m", MODEL))
    try:
        assert model.signed is not None
        assert len(keepers()) == 1, "one stands ready"
        parts = (memoryview(pickle.dumps({"x": 1 + 2j})),)
        outputs, timing = await model.signed.answer(InferRequest("m", {}, signed=parts))
        assert list(outputs.values()) == ["(1+2j)"]
        assert timing.compute_s > 0
    finally:
        model.close()


@linux
def test_a_relative_path_is_the_servers(tmp_path: Path, monkeypatch) -> None:
    write_python_model(tmp_path / "m", MODEL)
    monkeypatch.chdir(tmp_path)
    model = loaded(tmp_path, Path("m"))
    assert model.signed is not None
    model.close()


def test_a_model_of_arrays_has_no_such_workers(tmp_path: Path) -> None:
    model = loaded(tmp_path, write_identity(tmp_path / "m.onnx"))
    assert model.signed is None
    model.close()


@linux
def test_a_model_that_cannot_be_loaded_shut_off_is_not_loaded_at_all(
    tmp_path: Path, monkeypatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Model, "close", _noting(Model.close, closed))
    with pytest.raises(LoadFailed, match="no network"):
        loaded(tmp_path, write_python_model(tmp_path / "m", BROKEN))
    assert closed == ["m"]


def _noting(close: Any, closed: list[str]) -> Any:
    def noted(model: Model) -> None:
        closed.append(model.name)
        close(model)

    return noted


@linux
def test_loading_ends_when_nobody_waits_for_it(tmp_path: Path) -> None:
    hangs = "def load_model(path, device): time.sleep(1000)\ndef model_inference(obs): return 1\n"
    model = write_python_model(tmp_path / "m", "import time\n" + hangs)
    (spec,) = scan(model, registry.claims())
    start, stop = loader_of(tmp_path).start_signed, Stop()
    assert start is not None
    with ThreadPoolExecutor() as threads:
        started = threads.submit(start, spec, RuntimeOptions(), 1.0, stop)
        until(lambda: keepers())
        stop.ask()
        with pytest.raises(PeltonError):
            started.result(20)
    assert not keepers()


def keepers() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [each for each in children if any("single_use" in part for part in command(each))]


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []
