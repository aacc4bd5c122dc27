"""A real server in a process of its own, and tiny models for it: what end-to-end tests share.

    with ServerProcess(write_matmul(tmp_path / "m.onnx"), "--max-connections", "8") as server:
        reply = http.client.HTTPConnection("127.0.0.1", server.port)
        ...

The fixture `serve` (tests/conftest.py) starts any number of them and looks at how they end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
ENDED_TIMEOUT_S = 5.0
"""For the log's last lines to arrive once the process is gone."""

# Both lines that it writes when it is ready, so that no signal comes between them.
# Where there is no model yet, there is nothing to try.
_SERVING = re.compile(
    r"serving (?=no model yet |.*\n.*try it: .*\n).* at (https?://\S+?:(\d+))( and at \S+)? \(API.*\n"
)


class ServerProcess:
    """`pelton serve` on a free port, from ready to stopped.

    Attributes:
        process: the running `subprocess.Popen`.
        url: such as `http://127.0.0.1:34567`; set once it is ready.
        port: likewise.
    """

    def __init__(
        self,
        path: Path | str | None,
        *flags: str,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        """Start a server.

        Args:
            path: what to serve; None where a flag or a variable says it.
            flags: further arguments; `--port 0` is there already.
            env: variables on top of this process's own, whose `PELTON_*` are left out.
            wait: whether to return only once it is ready; else call `wait_ready` later.

        Raises:
            AssertionError: it ended, or did not get ready in time; the message holds its log.
        """
        command = [sys.executable, "-m", "pelton", "serve"]
        command += [] if path is None else [str(path)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Raw requests of tests call it by this name, which is not its own.
            env=clean_environment({"PELTON_ALLOWED_HOSTS": "test,a", **(env or {})}),
            encoding="utf-8",
            errors="backslashreplace",
        )
        self.url = ""
        self.port = 0
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._log_ended = False
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self._kill()
                raise

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    # -- its log ---------------------------------------------------------------------------------

    def log(self) -> str:
        """Return what it has written so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for_log(self, text: str, timeout_s: float = 10.0) -> str:
        """Return the log as soon as it holds `text`.

        Raises:
            AssertionError: it ended without, or the time is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._log_ended or text in self._joined(), timeout_s)
            log = self._joined()
        assert text in log, f"the server never wrote {text!r}; its log:\n{log}"
        return log

    def wait_ready(self) -> None:
        """Wait for the lines that it writes once it answers, and take its address from them."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._log_ended or _SERVING.search(self._joined()), START_TIMEOUT_S
            )
            log = self._joined()
        found = _SERVING.search(log)
        assert found, f"the server did not get ready; its log:\n{log}"
        self.url, self.port = found[1], int(found[2])

    def _joined(self) -> str:
        return "".join(self._lines)

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._log_ended = True
            self._changed.notify_all()

    # -- what it costs ---------------------------------------------------------------------------

    def rss_bytes(self) -> int:
        """Return the resident memory."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def open_files(self) -> int:
        """Return the number of file descriptors, sockets included."""
        return int(psutil.Process(self.process.pid).num_fds())

    def threads(self) -> int:
        """Return the number of threads."""
        return int(psutil.Process(self.process.pid).num_threads())

    def connections(self) -> int:
        """Return the number of its TCP sockets but for the listening one."""
        every = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(each.status != psutil.CONN_LISTEN for each in every)

    # -- its end ---------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for it to end by itself, and return the exit code.

        Raises:
            AssertionError: it is still there when the time is over; it is killed then.
        """
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._kill()
            raise AssertionError(f"the server did not end; its log:\n{self.log()}") from None
        self._close_log()
        return code

    def stop(self) -> int:
        """Ask it to end by SIGTERM, unless it has, and return the exit code.

        Raises:
            AssertionError: it does not end; it is killed then.
        """
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close_log()

    def _close_log(self) -> None:
        self._reader.join(ENDED_TIMEOUT_S)
        if not self._reader.is_alive() and self.process.stdout is not None:
            self.process.stdout.close()


def clean_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without its `PELTON_*`, and with `env` on top."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PELTON_")}
    return {"PYTHONUNBUFFERED": "1", "COLUMNS": "100", **kept, **(env or {})}


def run_pelton(
    *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Run a `pelton` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pelton", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=clean_environment(env),
        encoding="utf-8",
        timeout=timeout_s,
        check=False,
    )


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Poll a callable until it is true, for things that no event tells, such as memory given back.

    Raises:
        AssertionError: it is still false when the time is over.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not true within {timeout_s:g} s"
        time.sleep(0.02)


# -- models of ONNX ------------------------------------------------------------------------------

_ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def write_identity(
    path: Path, datatype: str = "FP32", shape: Sequence[int] = (-1,), inputs: int = 1
) -> Path:
    """Write a model whose outputs are its inputs.

    One input is called `x` and its output `y`; several are `x0`, `x1`, ... and `y0`, `y1`, ...

    Args:
        path: the `.onnx` file.
        datatype: Open Inference Protocol name.
        shape: dimensions; -1 is any size.
        inputs: how many.
    """
    names = ["x"] if inputs == 1 else [f"x{index}" for index in range(inputs)]
    nodes = [helper.make_node("Identity", [name], [name.replace("x", "y")]) for name in names]
    taken = [_value(name, datatype, shape) for name in names]
    given = [_value(name.replace("x", "y"), datatype, shape) for name in names]
    return _save(path, nodes, taken, given)


def write_matmul(path: Path, inputs: int = 64, outputs: int = 8) -> Path:
    """Write `y = x @ matmul_weights(inputs, outputs)` for `x` FP32 [-1, inputs]."""
    weights = numpy_helper.from_array(matmul_weights(inputs, outputs), "w")
    return _save(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [_value("x", "FP32", (-1, inputs))],
        [_value("y", "FP32", (-1, outputs))],
        [weights],
    )


def matmul_weights(inputs: int = 64, outputs: int = 8) -> np.ndarray:
    """Return the weights of `write_matmul`: float32 [inputs, outputs], small whole numbers.

    So products with whole numbers are exact, whatever the order of the additions.
    """
    numbers = np.arange(inputs * outputs) * 7 % 11 - 5
    return numbers.reshape(inputs, outputs).astype(np.float32)


def write_reduce(path: Path, datatype: str = "UINT8", shape: Sequence[int] = (-1, -1, 3)) -> Path:
    """Write a model with a big input `image` and a small output: `total` INT64 [1], its sum."""
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["wide"], ["scalar"], keepdims=0),
        helper.make_node("Reshape", ["scalar", "one"], ["total"]),
    ]
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    taken = [_value("image", datatype, shape)]
    return _save(path, nodes, taken, [_value("total", "INT64", (1,))], [one])


def _value(name: str, datatype: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    dims = [f"{name}_{axis}" if dim == -1 else dim for axis, dim in enumerate(shape)]
    return helper.make_tensor_value_info(name, _ONNX_TYPES[datatype], dims)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    taken: list[onnx.ValueInfoProto],
    given: list[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
) -> Path:
    graph = helper.make_graph(nodes, path.stem, taken, given, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


# -- models of plain Python ----------------------------------------------------------------------


def write_python_model(folder: Path, source: str) -> Path:
    """Write a folder with a `model.py`, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return folder


_WAITING_MODEL = """
import socket

def load_model(model_path, device):
    return None

def model_inference(obs):
    # Tells the test that it runs, and goes on when the test says so, or is gone.
    with socket.create_connection(("127.0.0.1", {port})) as test:
        test.sendall(b"running")
        test.recv(1)
    return obs["value"]
"""


class WaitingModel:
    """A plain Python model whose runs the test holds up: no sleeps, no polling.

        with WaitingModel(tmp_path / "model") as model:
            server = serve(model.folder)
            ...                     # send {"value": 1} to /infer in a thread
            run = model.next_run()  # returns when the model is running
            ...
            model.release(run)      # and now it answers 1

    Attributes:
        folder: holds its `model.py`.
    """

    def __init__(self, folder: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20.0)
        self._runs: list[socket.socket] = []
        port = self._listener.getsockname()[1]
        self.folder = write_python_model(folder, _WAITING_MODEL.format(port=port))

    def __enter__(self) -> WaitingModel:
        return self

    def __exit__(self, *_raised: object) -> None:
        for run in self._runs:
            self.release(run)
        self._listener.close()

    def next_run(self) -> socket.socket:
        """Wait until the model has begun to run once more."""
        run, _ = self._listener.accept()
        self._runs.append(run)
        run.settimeout(20.0)
        assert run.recv(7) == b"running"
        return run

    def release(self, run: socket.socket) -> None:
        """Let a run go on."""
        with contextlib.suppress(OSError):
            run.sendall(b".")
        run.close()


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 on which something else listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
