"""What clients see when a model's worker process dies under their request, or leaks."""

from __future__ import annotations

import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pelton.client import Client
from pelton.client.options import Retries
from pelton.errors import Unavailable
from support_server import ServerProcess, until

DYING = """
import os
from pathlib import Path

def load_model(model_path, device):
    return Path(model_path)

def model_inference(folder, obs):
    if "die" in obs:
        with open(folder / "runs", "a") as runs:
            runs.write("x")
        os._exit(3)
    return len(obs)
"""


def test_a_request_that_ends_its_worker_is_not_sent_again(serve, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(DYING)
    server = serve(tmp_path)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        with pytest.raises(Unavailable, match="ended by itself with exit code 3"):
            client.predict({"die": 1})
        assert (tmp_path / "runs").read_text() == "x"
        assert client.predict({"live": 1}) == 1
        assert client.server_ready()


LEAKING = """
import os

HELD = []

def load_model(model_path, device):
    return None

def model_inference(model, obs):
    HELD.append(b"x" * (1 << 20))
    return os.getpid()
"""

CLIENTS = 4


def statistics(server: ServerProcess) -> dict[str, Any]:
    with urllib.request.urlopen(server.url + "/stats") as reply:
        return next(iter(json.load(reply)["models"].values()))


def test_a_worker_that_leaks_is_replaced_and_no_request_fails(serve, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(LEAKING)
    server = serve(tmp_path, "--worker-max-bytes", "200MiB")
    enough = threading.Event()

    def ask_all_the_time(_number: int) -> set[int]:
        pids = set()
        with Client(server.url, retries=Retries(attempts=1)) as client:
            while not enough.is_set():
                pids.add(client.predict({}))
        return pids

    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = pool.map(ask_all_the_time, range(CLIENTS))
        try:
            until(lambda: statistics(server)["restarts"] >= 2, 60.0)
        finally:
            enough.set()
        pids = set().union(*asked)  # raises what any client met
    assert len(pids) >= 3
    assert statistics(server)["instances"] == {"all": 1, "alive": 1}
    assert statistics(server)["worker_bytes"] > 0
