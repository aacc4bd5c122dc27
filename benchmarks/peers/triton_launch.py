"""How Triton is started: the real `tritonserver` and Python backend that nvidia-pytriton carries.

No other backend is in that package, so ONNX Runtime runs inside the Python backend's process.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from functools import partial
from pathlib import Path

import environments
from environments import HERE
from peers.launch import Launch
from processes import free_port

CONFIG = """\
name: "small"
backend: "python"
max_batch_size: 32
input [{{ name: "x" data_type: TYPE_FP32 dims: [ 64 ] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [ 8 ] }}]
{batching}
instance_group [{{ count: 1 kind: KIND_CPU }}]
parameters {{ key: "path" value: {{ string_value: "{path}" }} }}
"""


def triton(model: Path, *, lean: bool = False) -> Launch:
    """Triton with one instance of the model, as its own defaults have it.

    Args:
        model: the ONNX file.
        lean: with dynamic batching, and with neither metrics nor gRPC.

    Raises:
        Missing: its package has no stub for this interpreter's version.
    """
    python = environments.python_of("triton")
    folder = environments.home() / ("triton-lean" if lean else "triton")
    backends = _backends(python, folder / "backends")
    repository = _repository(model, folder / "models", lean=lean)
    port = free_port()
    doors = [f"--grpc-port={free_port()}", f"--metrics-port={free_port()}"]
    libraries = [_packages(python) / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    return Launch(
        [
            _packages(python) / "pytriton" / "tritonserver" / "bin" / "tritonserver",
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            *(["--allow-grpc=false", "--allow-metrics=false"] if lean else doors),
        ],
        port,
        "/v2/health/ready",
        {
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in libraries),
            "PATH": f"{python.parent}:/usr/bin:/bin",
            "PYTHONPATH": str(_packages(python)),
        },
    )


def _packages(python: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return python.parents[1] / "lib" / version / "site-packages"


def _backends(python: Path, folder: Path) -> Path:
    """Return a folder of backends in which the interpreter's stub lies beside the backend."""
    triton = _packages(python) / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise environments.Missing(f"nvidia-pytriton has no stub for Python {version}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(triton / "backends", folder)
    placed = Path(shutil.copy(stub, folder / "python"))
    placed.chmod(0o755)
    return folder


def _repository(model: Path, folder: Path, *, lean: bool) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    version = folder / "small" / "1"
    version.mkdir(parents=True)
    shutil.copyfile(HERE / "peers" / "triton_onnx.py", version / "model.py")
    shutil.copy(HERE / "peers" / "matrix.py", version)
    config = CONFIG.format(path=model, batching="dynamic_batching { }" if lean else "")
    (folder / "small" / "config.pbtxt").write_text(config)
    return folder


triton_lean = partial(triton, lean=True)
