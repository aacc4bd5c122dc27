"""Where the peers live: one virtual environment for each, outside the repository, made once.

`BENCH_HOME` names the folder; without it, `pelton-bench` in the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
PELTON = Path(sys.executable).with_name("pelton")

WORKER = """\
isolation = "process"

[[inputs]]
name = "image"
datatype = "UINT8"
shape = [-1, -1, -1, 3]

[[outputs]]
name = "actions"
datatype = "FP32"
shape = [16, 6]
"""
"""Declares what `peers/observation.py` takes, so that it can be asked over OIP."""


class Missing(Exception):
    """Something that a scenario needs is not there; the message is one sentence with the cure."""


def home() -> Path:
    """Return the folder for everything that a run leaves behind, made if need be."""
    folder = Path(os.environ.get("BENCH_HOME") or Path(tempfile.gettempdir()) / "pelton-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment, made from `peers/<peer>.txt` if need be."""
    requirements = HERE / "peers" / f"{peer}.txt"
    folder = home() / "environments" / peer
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / "installed.sha256"
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer} (once, into {folder})", flush=True)
        create(folder)
        install(python, "--requirement", str(requirements))
        stamp.write_text(wanted)
    return python


def create(folder: Path) -> None:
    """Make a new virtual environment, in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True, symlinks=True)


def install(python: Path, *arguments: str) -> None:
    """Run pip in an environment.

    Raises:
        Missing: pip failed; the message holds its last line.
    """
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no word"]
        raise Missing(f"pip install {' '.join(arguments)} failed: {said[-1]}")


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of some packages as one environment has them."""
    code = (
        "import importlib.metadata, json, sys; "
        "print(json.dumps({n: importlib.metadata.version(n) for n in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *packages], stdout=subprocess.PIPE, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def make_models() -> Path:
    """Write the models that are measured and return their folder."""
    folder = home() / "models"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python_of("models"), HERE / "peers" / "make_models.py", folder], check=True)
    for name, declared in (("policy", ""), ("worker", WORKER)):
        model = folder / "payload" / name
        (model / "1").mkdir(parents=True)
        shutil.copyfile(HERE / "peers" / "observation.py", model / "1" / "model.py")
        (model / "model.toml").write_text(declared)
    return folder


def require_pelton() -> None:
    """Check that this interpreter's environment can serve.

    Raises:
        Missing: it cannot.
    """
    if not PELTON.exists():
        raise Missing(
            f"{sys.executable} has no pelton beside it: run ./start_server.sh once, then "
            ".venv/bin/python benchmarks/run.py"
        )


def require_wrk() -> Path:
    """Return the path of wrk.

    Raises:
        Missing: it is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise Missing("wrk is not installed: apt-get install wrk (macOS: brew install wrk)")
    return Path(found)
