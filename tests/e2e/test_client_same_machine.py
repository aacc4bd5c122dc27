"""Our clients and our server on one machine: Unix socket, shared memory, and the call's options."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from client.both_clients import KINDS, MakeClient, clients
from pelton import errors
from pelton.client import Bounds, Client, Retries
from served_models import write_models
from support_server import ServerProcess, run_pelton, write_identity, write_matmul, write_reduce

IMAGE = np.random.default_rng(5).integers(0, 256, (720, 1280, 3), np.uint8)


def write_tile(path: Path) -> Path:
    """Write a model whose output is its input `x` UINT8 [-1], as often as `times` INT64 [1] says."""
    taken = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, ["n"]),
        helper.make_tensor_value_info("times", TensorProto.INT64, [1]),
    ]
    given = [helper.make_tensor_value_info("y", TensorProto.UINT8, ["m"])]
    nodes = [helper.make_node("Tile", ["x", "times"], ["y"])]
    graph = helper.make_graph(nodes, "tile", taken, given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("same")
    models = write_models(folder / "models")
    write_identity(models / "picture/1/model.onnx", "UINT8", (-1, -1, 3))
    write_reduce(models / "sum/1/model.onnx")
    write_tile(models / "tile/1/model.onnx")
    with ServerProcess(models, "--uds", str(folder / "p.sock")):
        yield f"unix:{folder / 'p.sock'}"


@pytest.fixture(params=KINDS)
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    with clients(request.param) as make:
        yield make


def registered(url: str) -> set[str]:
    """Return the names of the regions that a server knows."""
    with Client(url) as asking:
        return {name for name, _ in asking._ask(asking._calls.regions())}


def test_everything_is_asked_over_the_unix_socket(url, make_client):
    client = make_client(url)
    assert client.server_ready()
    assert client.server_metadata().name == "pelton"
    x = np.arange(128, dtype=np.float32).reshape(2, 64)
    over_http = client.infer("matmul", {"x": x}).outputs["y"]
    assert over_http.shape == (2, 8)
    value = {"value": {"image": IMAGE, "text": "ä"}}
    answer = client.predict(value, "plain")
    np.testing.assert_array_equal(answer["image"], IMAGE)


def test_the_command_line_asks_there_too(url):
    done = run_pelton("health", "--url", url)
    assert done.returncode == 0, done.stderr
    assert "ready   yes" in done.stdout
    assert "matmul" in run_pelton("models", "--url", url).stdout


def test_pictures_go_both_ways_through_shared_memory(url, make_client):
    client = make_client(url, shared_memory=True)
    mine = client.empty(IMAGE.shape, np.uint8)
    for number in range(4):
        np.add(IMAGE, np.uint8(number), out=mine)
        for sent in (mine, IMAGE + np.uint8(number)):
            answer = client.infer("picture", {"x": sent}).outputs["y"]
            np.testing.assert_array_equal(answer, sent)
    # One of `empty`, one for the copies, and two for the answers: the last of them was still held.
    assert len(registered(url)) == 4
    client.close()
    assert registered(url) == set()
    np.testing.assert_array_equal(answer, IMAGE + np.uint8(3))


def test_an_answer_that_outgrows_its_place_comes_nevertheless(url, make_client):
    client = make_client(url, shared_memory=True)
    x = IMAGE.reshape(-1)[:100_000]
    for times in (1, 1, 5, 5, 2, 9):
        answer = client.infer("tile", {"x": x, "times": np.array([times])}).outputs["y"]
        np.testing.assert_array_equal(answer, np.tile(x, times))


def test_threads_share_one_client_and_its_memory(url):
    with Client(url, shared_memory=True, bounds=Bounds(max_connections=4)) as client:

        def ask(number: int) -> bool:
            sent = IMAGE[:100] + np.uint8(number)
            return np.array_equal(client.infer("picture", {"x": sent}).outputs["y"], sent)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(200)))
    assert registered(url) == set()


KILLED = """
import os, signal, sys
import numpy as np
from pelton.client import Client

client = Client(sys.argv[1], shared_memory=True)
for _ in range(2):
    client.infer("picture", {"x": np.ones((300, 300, 3), np.uint8)})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_client_leaves_no_names_and_the_next_one_frees_the_servers_memory(url):
    before = set(Path("/dev/shm").glob("pelton-*"))
    killed = subprocess.run([sys.executable, "-c", KILLED, url], timeout=30, check=False)
    assert killed.returncode == -9
    assert set(Path("/dev/shm").glob("pelton-*")) <= before
    assert len(registered(url)) == 2
    with Client(url, shared_memory=True) as client:
        client.empty(IMAGE.shape, np.uint8)
        (name,) = registered(url)
    assert f"-{os.getpid()}-" in name


def test_a_server_that_was_started_anew_is_found_with_its_memory(serve, tmp_path, make_client):
    model = write_reduce(tmp_path / "sum.onnx")
    socket = tmp_path / "p.sock"
    first = serve(model, "--uds", str(socket))
    client = make_client(f"unix:{socket}", shared_memory=True, retries=Retries(attempts=1))
    mine = client.empty(IMAGE.shape, np.uint8)
    mine[...] = IMAGE
    assert client.infer("sum", {"image": mine}).outputs["total"] == [IMAGE.sum()]
    first.stop()
    serve(model, "--uds", str(socket))
    for sent in (mine, IMAGE, mine):
        assert client.infer("sum", {"image": sent}).outputs["total"] == [IMAGE.sum()]


def test_over_tcp_shared_memory_has_to_be_allowed(serve, tmp_path, make_client):
    model = write_reduce(tmp_path / "sum.onnx")
    careful = make_client(serve(model).url, shared_memory=True)
    with pytest.raises(errors.SettingsError, match=r"Unix socket.*--allow-shared-memory"):
        careful.infer("sum", {"image": IMAGE})
    trusting = make_client(serve(model, "--allow-shared-memory").url, shared_memory=True)
    assert trusting.infer("sum", {"image": IMAGE}).outputs["total"] == [IMAGE.sum()]


@pytest.mark.parametrize("shared_memory", [False, True])
def test_the_timing_is_within_what_the_client_measures(url, make_client, shared_memory):
    client = make_client(url, shared_memory=shared_memory)
    for _ in range(3):
        begun_s = time.monotonic()
        timing = client.infer("sum", {"image": IMAGE}, timing=True).timing
        whole_s = time.monotonic() - begun_s
    parts = (
        timing.receive_s,
        timing.queue_s,
        timing.batch_wait_s,
        timing.compute_s,
        timing.encode_s,
    )
    assert timing.compute_s > 0
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= whole_s
    assert client.infer("sum", {"image": IMAGE}).timing.compute_s == 0


def test_a_deadline_that_the_caller_sets_is_the_servers_too(url, make_client):
    client = make_client(url)
    assert client.infer("sum", {"image": IMAGE}, timeout_s=30, priority=1).outputs["total"]
    assert client.predict({"value": 7}, "plain", timeout_s=30) == 7


def test_a_deterministic_server_tells_the_digest(serve, tmp_path, make_client):
    server = serve(write_matmul(tmp_path / "m.onnx"), "--deterministic")
    client = make_client(server.url)
    x = np.ones((1, 64), np.float32)
    first, second, other = (client.infer("m", {"x": each}) for each in (x, x, x * 2))
    assert first.digest.startswith("sha256:")
    assert first.digest == second.digest
    assert first.digest != other.digest
