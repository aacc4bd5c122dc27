"""What the scenario `swap` makes of answers, orders and versions; the measuring is not run here."""

from __future__ import annotations

import importlib
import json
import socket
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch, tmp_path):
    """Import modules of `benchmarks/` as its command does, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "load"))
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


def event(publishing, begin_s: float, end_s: float, version: int | None):
    refused = "" if version else "golden"
    return publishing.Event("publish", "good", begin_s, end_s, version, version, refused)


@pytest.mark.parametrize(
    ("due_s", "answered_s", "allowed"),
    [
        (0.0, 0.9, {1}),  # all over before the first order
        (0.0, 1.5, {1, 2}),  # answered while the change was made
        (1.5, 1.6, {1, 2}),  # due and answered meanwhile
        (2.5, 2.6, {2}),  # after the reply there is no doubt
        (2.5, 3.5, {2}),  # a refused publish changes nothing
        (2.5, 5.5, {2, 3}),
        (0.0, 9.0, {1, 2, 3}),  # under way all the time
        (7.0, 7.1, {3}),
    ],
)
def test_who_may_have_answered_follows_from_orders_and_replies(
    benchmarks, due_s, answered_s, allowed
):
    publishing = benchmarks("publishing")
    events = [
        event(publishing, 1, 2, 2),
        event(publishing, 3, 4, None),
        event(publishing, 5, 6, 3),
    ]
    timeline = publishing.Timeline(1, events)
    assert timeline.allowed(due_s, answered_s) == allowed
    assert timeline.under_way(3.5)
    assert timeline.under_way(4.2)  # the old version is being closed
    assert not timeline.under_way(4.5)


def body(version: int, added: float) -> bytes:
    output = {"name": "y", "parameters": {"binary_data_size": 256}}
    said = {"model_name": "steady", "model_version": str(version), "outputs": [output]}
    return json.dumps(said).encode() + b"  " + np.full(64, 1 + added, np.float32).tobytes()


@pytest.mark.parametrize(
    ("answer", "due_s", "wrong"),
    [
        (body(2, 2), 12.5, 0),
        (body(2, 2), 11.5, 0),  # while it was published
        (body(2, 2), 10.5, 1),  # before it was
        (body(1, 1), 12.5, 1),  # the old one, after the new one was in service
        (body(2, 1), 12.5, 1),  # says one version and gives the values of another
        (body(2, np.nan), 12.5, 1),
        (body(2, 2)[:-4] + b"\0\0\0\0", 12.5, 1),
    ],
)
def test_an_answer_of_a_wrong_version_is_found(benchmarks, answer, due_s, wrong):
    swap, publishing = benchmarks("scenarios.swap"), benchmarks("publishing")
    answers = benchmarks("generators").Answers(
        due_s=np.array([due_s - 10, 0.0]),
        latency_s=np.array([0.1, 0.1]),
        status=np.array([200, 503]),
        first=b"",
        start_s=10.0,
        body=np.array([0, 1]),
        bodies=(answer, b"no room"),
    )
    found = swap.Found(
        answers, publishing.Timeline(1, [event(publishing, 11, 12, 2)]), 1, 1, [1], None
    )
    assert found.wrong == wrong
    assert found.failed == 1


def test_a_third_of_the_versions_is_bad_in_every_way_and_never_rolled_back(benchmarks):
    swap = benchmarks("scenarios.swap")
    plan = swap.Plan(50, 2.0, 30.0)
    kinds = [plan.kind(number) for number in range(50)]
    assert sum(kind != "good" for kind in kinds) == 17
    assert set(kinds) == {"good", *swap.BAD}
    followed = [number for number in range(50) if plan.then_rollback(number)]
    assert len(followed) == 8
    assert {kinds[number] for number in followed} == {"good"}


def test_quiet_are_the_times_before_and_after_all_changes(benchmarks):
    swap, publishing = benchmarks("scenarios.swap"), benchmarks("publishing")
    due_s = np.arange(0.0, 20.0, 0.5)
    answers = benchmarks("generators").Answers(
        due_s, due_s * 0, due_s.astype(int) * 0 + 200, b"", 100.0, due_s.astype(int) * 0 - 1
    )
    events = [event(publishing, 105.2, 105.7, 2), event(publishing, 112.2, 112.7, 3)]
    found = swap.Found(answers, publishing.Timeline(1, events), 1, 1, [1], ())
    plan = swap.Plan(2, 5.0, 5.0)
    assert found.quiet(plan).due_s.tolist() == [
        *np.arange(0.0, 5.0, 0.5),
        *np.arange(16.5, 20.0, 0.5),
    ]
    assert found.changing().due_s.tolist() == [5.5, 12.5]


@pytest.mark.parametrize("kind", ["good", "nan", "shape", "slow"])
def test_onnx_versions_are_what_they_are_called(benchmarks, kind):
    made = benchmarks("peers.version_files").model(7, kind)
    session = onnxruntime.InferenceSession(made.SerializeToString())
    (y,) = session.run(None, {"x": np.ones((1, 64), np.float32)})
    assert y.shape == ((1, 128) if kind == "shape" else (1, 64))
    assert (np.isnan(y) if kind == "nan" else y == 8).all()


@pytest.mark.parametrize("kind", ["good", "nan", "shape", "slow", "late nan", "unloadable"])
def test_worker_versions_are_what_they_are_called(benchmarks, kind):
    files = benchmarks("scenarios.swap")._worker_files({7: kind})
    model: dict = {}
    exec(files[7], model)
    if kind == "unloadable":
        with pytest.raises(RuntimeError, match="on purpose"):
            model["load_model"]("", "")
        return
    model["load_model"]("", "")
    runs = 801 if kind == "late nan" else 1
    given = [model["model_inference"]({"x": np.ones((1, 64), np.float32)}) for _ in range(runs)]
    assert given[0].shape == ((1, 128) if kind == "shape" else (1, 64))
    assert np.isnan(given[-1]).all() == (kind in {"nan", "late nan"})
    if kind != "nan":
        assert (given[0] == 8).all()


def echo(server: socket.socket) -> None:
    """Answer each request of 4 bytes behind the head with these bytes."""
    connection, _ = server.accept()
    with connection:
        received = b""
        while more := connection.recv(4096):
            received += more
            while b"\r\n\r\n" in received and len(received.partition(b"\r\n\r\n")[2]) >= 4:
                _, _, rest = received.partition(b"\r\n\r\n")
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + rest[:4])
                received = rest[4:]


@pytest.mark.parametrize("stamped", [True, False])
def test_requests_differ_where_they_shall_and_bodies_are_kept_once(benchmarks, stamped):
    generator, framing = benchmarks("generator"), benchmarks("framing")
    request = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nsame"
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=echo, args=(server,))
        answering.start()
        load = generator.Generator(server.getsockname(), framing.Http(), request)
        order = {"connections": 1, "start_ns": 0, "phases": [[400, 0.1]], "seed": 1}
        stamp = {"stamp": len(request) - 4} if stamped else {}
        found = generator.obey(load, {**order, **stamp, "bodies": True})
        for connection in load._idle:
            connection._socket.close()
        load._selector.close()
        answering.join()
    assert set(found["status"]) == {200}
    count = len(found["status"])
    assert count > 10
    kept = [generator.base64.b64decode(each) for each in found["bodies"]]
    expected = [struct.pack("<f", number + 1) for number in range(count)] if stamped else [b"same"]
    assert kept == expected
    assert found["body"] == (list(range(count)) if stamped else [0] * count)
