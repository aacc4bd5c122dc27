"""Serving an ONNX model imports what that needs, and none of the heavy libraries it does not."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

from rules.source_tree import REPOSITORY

NEVER_AT_START = {
    "alembic",
    "cryptography",
    "cv2",
    "matplotlib",
    "onnx",
    "pandas",
    "PIL",
    "psycopg",
    "pytest",
    "ray",
    "redis",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "torch",
    "tritonclient",
}


def imported_while_serving(model: str) -> set[str]:
    """Start a server, end it once it is ready, and return the top-level names it imported."""
    command = [sys.executable, "-X", "importtime", "-m", "pelton", "serve", model, "--port", "0"]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "serving " in line:
                server.send_signal(signal.SIGINT)
    assert server.returncode == 0, "".join(lines[-5:])
    timed = (re.match(r"import time: .*\| +([\w.]+)$", line) for line in lines)
    return {match[1].split(".")[0] for match in timed if match}


def test_serving_an_onnx_model_imports_no_heavy_library() -> None:
    imported = imported_while_serving("examples/models/digits/1/model.onnx")
    assert {"onnxruntime", "numpy", "pelton"} <= imported
    assert imported & NEVER_AT_START == set()


def test_the_client_imports_nothing_of_the_server() -> None:
    code = "import sys, pelton; pelton.Client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = {name.split(".")[0] for name in done.stdout.split()}
    assert {"pelton", "numpy"} <= imported
    server_only = {"fastapi", "msgspec", "onnxruntime", "rich", "typer", "uvicorn", "uvloop"}
    assert imported & (NEVER_AT_START | server_only) == set()
