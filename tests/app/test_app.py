"""The composition root: binding, loading, putting together, and what `GET /stats` says."""

from __future__ import annotations

import logging
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.fake_models import FakeClock, FakeModel, described
from pelton import app
from pelton.engine.models import Models
from pelton.engine.placement import SAMPLES
from pelton.errors import Code, LoadFailed, SettingsError
from pelton.messages import Observed, Timing
from pelton.monitoring.counters import Counters
from pelton.runtimes.contract import RuntimeOptions
from pelton.settings import load_settings
from pelton.specs import ModelSpec, TensorSpec
from support_server import taken_port, write_identity, write_matmul

# -- binding -------------------------------------------------------------------------------------


def test_port_0_takes_a_free_one() -> None:
    with app.bind("127.0.0.1", 0) as one, app.bind("127.0.0.1", 0) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
        assert 0 not in ports
        assert ports[0] != ports[1]


def test_nothing_is_answered_before_the_models_are_loaded() -> None:
    with (
        app.bind("127.0.0.1", 0) as listener,
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(listener.getsockname(), timeout=10),
    ):
        pass


def test_a_port_is_free_again_right_after_a_server_ended() -> None:
    """Connections that it closed linger in TIME_WAIT; a restart must not wait for them."""
    with app.bind("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        listener.listen(1)
        with socket.create_connection(address, timeout=10):
            accepted, _ = listener.accept()
            accepted.close()
    app.bind(*address).close()


def test_a_taken_port_is_told_with_the_cure() -> None:
    with taken_port() as port, pytest.raises(LoadFailed) as caught:
        app.bind("127.0.0.1", port)
    assert re.fullmatch(
        rf"cannot listen on 127\.0\.0\.1 port {port}: Address already in use; "
        "if another server runs there, choose another port with --port",
        caught.value.message,
    )


def test_a_foreign_address_is_told() -> None:
    with pytest.raises(LoadFailed, match=r"^cannot listen on 203\.0\.113\.1 port 0: "):
        app.bind("203.0.113.1", 0)


@pytest.mark.parametrize(
    "host",
    [
        "a..b",
        "x" * 70,
        "[::1]",
    ],
)
def test_what_is_no_address_is_told(host: str) -> None:
    with pytest.raises(LoadFailed, match=r"^cannot listen on "):
        app.bind(host, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the second bind fails already")
def test_a_port_that_was_taken_while_the_models_were_loaded_is_told() -> None:
    with app.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with app.bind("127.0.0.1", port) as second:
            first.listen(1)
            server = app.build(Models(), load_settings({}, {}), lambda: None)
            with pytest.raises(LoadFailed, match=f"^cannot listen on 127.0.0.1 port {port}: "):
                server.run(second)


# -- loading -------------------------------------------------------------------------------------


def test_models_are_loaded_and_logged_one_by_one(tmp_path: Path, caplog) -> None:
    write_matmul(tmp_path / "scorer/2/model.onnx", 4, 3)
    write_matmul(tmp_path / "scorer/10/model.onnx", 5, 3)
    write_identity(tmp_path / "echo/model.onnx", "INT64", (-1,), inputs=2)
    with caplog.at_level(logging.INFO, "pelton.app"):
        models = app.load_models(tmp_path, RuntimeOptions())
    try:
        told = [(each.name, each.version) for each in models.metadata()]
        assert told == [("echo", "1"), ("scorer", "10")]
        lines = [re.sub(r"\d+ ms", "N ms", record.getMessage()) for record in caplog.records]
        assert lines == [
            "model echo version 1 (onnx on cpu, loaded in N ms): "
            "x0 INT64 [-1], x1 INT64 [-1] -> y0 INT64 [-1], y1 INT64 [-1]",
            "model scorer version 10 (onnx on cpu, loaded in N ms): "
            "x FP32 [-1, 5] -> y FP32 [-1, 3]",
        ]
    finally:
        models.close()


class Loading:
    """Stands for the registry: loads fakes, and fails at the model that is called `broken`."""

    def __init__(self, **about_models: Any) -> None:
        self.loaded: list[FakeModel] = []
        self.options: list[RuntimeOptions] = []
        self.runs = 0
        self._about_models = about_models

    def __call__(self, spec: ModelSpec, options: RuntimeOptions) -> FakeModel:
        if spec.name == "broken":
            raise LoadFailed("model 'broken' is broken")
        metadata = described(TensorSpec("x", "FP32", (2,)), name=spec.name)
        self.options.append(options)
        self.loaded.append(FakeModel(self._run, metadata, **self._about_models))
        return self.loaded[-1]

    def _run(self, inputs: Any) -> dict[str, Any]:
        self.runs += 1
        return dict(inputs)


def test_a_broken_model_closes_those_that_were_loaded_before(tmp_path, monkeypatch) -> None:
    for name in ("a", "b", "broken", "c"):
        write_identity(tmp_path / name / "model.onnx")
    loading = Loading()
    monkeypatch.setattr(app.registry, "load", loading)
    with pytest.raises(LoadFailed, match="model 'broken' is broken"):
        app.load_models(tmp_path, RuntimeOptions())
    assert [(each.metadata.name, each.closed) for each in loading.loaded] == [("a", 1), ("b", 1)]


def test_models_are_warmed_up_with_the_servers_options(tmp_path, monkeypatch) -> None:
    loading = Loading(quick=True)
    monkeypatch.setattr(app.registry, "load", loading)
    options = RuntimeOptions(intra_op_threads=3)
    models = app.load_models(write_identity(tmp_path / "m.onnx"), options)
    assert models.names() == ["m"]
    assert loading.options == [options]
    assert loading.runs == SAMPLES + 1


def test_a_path_without_models_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="does not exist"):
        app.load_models(tmp_path / "nowhere", RuntimeOptions())
    with pytest.raises(LoadFailed, match="there is no model in"):
        app.load_models(tmp_path, RuntimeOptions())


def test_a_default_model_has_to_be_served() -> None:
    settings = load_settings({"default_model": "robot"}, {})
    with pytest.raises(SettingsError, match=r"^default_model is 'robot', but served are: "):
        app.build(Models(), settings, lambda: None)


# -- statistics ----------------------------------------------------------------------------------


def counted() -> Counters:
    clock = FakeClock(0.0)
    counters = Counters(clock)
    for name in ("robot", "idle"):
        counters.know(name)
    for seconds in (0.5, 1.5, 1.0):
        counters.observe(Observed("robot", None, Timing(9.0, seconds)))
    counters.observe(Observed("robot", Code.INVALID_INPUT, Timing()))
    counters.observe(Observed("guess", Code.NOT_FOUND, Timing()))
    clock.now_s = 10.0
    return counters


ROBOT = {
    "total_requests": 4,
    "successful_requests": 3,
    "failed_requests": 1,
    "total_inference_time": 3.0,
    "avg_inference_time": 1.0,
    "uptime_seconds": 10.0,
    "requests_per_second": 0.4,
    "success_rate": 0.75,
}
IDLE = {
    "total_requests": 0,
    "successful_requests": 0,
    "failed_requests": 0,
    "total_inference_time": 0.0,
    "avg_inference_time": 0.0,
    "uptime_seconds": 10.0,
    "requests_per_second": 0.0,
    "success_rate": 0.0,
}


def test_statistics_of_one_model() -> None:
    assert app.statistics(counted(), "robot") == ROBOT
    assert app.statistics(counted(), "idle") == IDLE


def test_statistics_of_all() -> None:
    assert app.statistics(counted(), None) == ROBOT | {
        "total_requests": 5,
        "failed_requests": 2,
        "requests_per_second": 0.5,
        "success_rate": 0.6,
        "models": {"robot": ROBOT, "idle": IDLE},
    }


def test_statistics_in_the_very_first_moment() -> None:
    told = app.statistics(Counters(FakeClock()), None)
    assert told == IDLE | {"uptime_seconds": 0.0, "models": {}}
