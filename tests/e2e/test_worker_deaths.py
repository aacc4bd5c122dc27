"""What clients see when a model's worker process dies under their request."""

from __future__ import annotations

from pathlib import Path

import pytest

from pelton.client import Client
from pelton.errors import Unavailable

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
