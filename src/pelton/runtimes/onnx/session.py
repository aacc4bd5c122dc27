"""Opens an ONNX file with onnxruntime, on the device and with the settings asked for."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pelton.errors import LoadFailed
from pelton.own_paths import without_paths
from pelton.runtimes.choices import choose_device
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.onnx.values import as_ort_value, from_ort_value

logger = logging.getLogger("pelton.runtimes")

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"

_FATAL_ONLY = 4
"""Level of onnxruntime's own log; what it would print is raised as well."""

_OPTIMIZATION = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


Compute = Callable[[list[str], Mapping[str, Any], Any], Sequence[Any]]
"""Runs a session: names of the outputs, value by name of input, and `RunOptions` -> values."""


def open_session(path: Path, options: RuntimeOptions) -> Any:
    """Open a file; the device `auto` means CUDA where that works, else the CPU.

    Args:
        path: the file, whose external data has been checked.
        options: how to run it.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        LoadFailed: onnxruntime cannot load the file, or the device is not there.
    """
    import onnxruntime

    settings = session_settings(options)
    device = choose_device(
        options.device,
        math.inf if _CUDA in onnxruntime.get_available_providers() else 0,
        "this onnxruntime is built for the CPU: pip install onnxruntime-gpu in its place, "
        "or use the device cpu",
    )
    if device != "cpu":
        cuda = (_CUDA, _cuda_settings(int(device.partition(":")[2]), options))
        try:
            return _session(path, settings, [cuda, _CPU])
        except LoadFailed as error:
            if options.device != "auto":
                raise
            logger.warning("the CPU is used: %s", error)
    return _session(path, settings, [_CPU])


def session_settings(options: RuntimeOptions) -> Any:
    """Return the options as an `onnxruntime.SessionOptions`.

    Raises:
        LoadFailed: the level of graph optimisation has no such name.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL_ONLY
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = options.inter_op_threads
    spinning = "1" if options.allow_spinning else "0"
    settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    settings.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    if options.deterministic:
        settings.use_deterministic_compute = True
        # Where a tensor lies must not depend on the shapes of the requests before.
        settings.enable_mem_pattern = False
    level = _OPTIMIZATION.get(options.graph_optimization)
    if level is None:
        raise LoadFailed(
            f"unknown graph_optimization {options.graph_optimization!r:.40}; "
            f"known are {', '.join(_OPTIMIZATION)}"
        )
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return settings


def _cuda_settings(device_id: int, options: RuntimeOptions) -> dict[str, Any]:
    # By default cuDNN's algorithms are timed against each other, and a busy GPU changes who wins.
    search = {"cudnn_conv_algo_search": "DEFAULT"} if options.deterministic else {}
    return {"device_id": device_id, **search}


def device_of(session: Any) -> str:
    """Return where a session runs, `cpu` or `cuda:N`."""
    if session.get_providers()[0] != _CUDA:
        return "cpu"
    return f"cuda:{session.get_provider_options()[_CUDA]['device_id']}"


def runner(session: Any) -> Compute:
    """Return what runs a session on arrays.

    `InferenceSession.run` looks for missing inputs, and for values and graphs of the GPU, before
    it hands on to the session proper. Its caller has done the first and has none of the others,
    and all that takes a quarter of the time of a tiny model. So it is passed by, unless a version
    of onnxruntime calls what is behind it by another name.
    """
    run: Compute = getattr(session, "_sess", session).run
    return run


def bfloat16_runner(session: Any) -> Compute:
    """Return the same for a model with bfloat16 tensors.

    numpy has no bfloat16, so onnxruntime's own values must carry it in and out.
    """

    def run(names: list[str], feed: Mapping[str, Any], how: Any) -> Sequence[Any]:
        values = {name: as_ort_value(value) for name, value in feed.items()}
        given = session.run_with_ort_values(names, values, how)
        return [from_ort_value(value) for value in given]

    return run


def _session(path: Path, settings: Any, providers: Sequence[Any]) -> Any:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=providers, enable_fallback=0
        )
    # Border: onnxruntime has a dozen kinds of errors for a file, derived from Exception alone.
    except Exception as error:
        raise LoadFailed(
            f"onnxruntime cannot load {path.name}: {_plain(str(error), path)}"
        ) from error
    # Where a provider's libraries are missing, onnxruntime goes on without it.
    if len(session.get_providers()) < len(providers):
        raise LoadFailed(
            "onnxruntime cannot use CUDA: its CUDA or cuDNN libraries or the device itself are "
            "missing; install them, or use the device cpu"
        )
    return session


def _plain(said: str, path: Path) -> str:
    """Cut onnxruntime's word on a file to one line without the folders of this machine."""
    reason = said.rpartition("[ONNXRuntimeError] : ")[2]
    return without_paths(" ".join(reason.split()), path.parent)[:300]
