"""What the libraries of a worker process are told by its environment, before they are imported."""

from __future__ import annotations

from collections.abc import Mapping

from pelton.runtimes.contract import RuntimeOptions

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_SPIN = "OPENBLAS_THREAD_TIMEOUT"

_SPIN_CYCLES_LOG2 = "18"
"""OpenBLAS has idle threads spin for two to the power of this many cycles before they sleep. By
default that is 26, some 25 ms: every thread of every worker burns a core for as long when it
starts, and after each product of matrices. About 0.1 ms still bridges the gap to the next one."""


def with_libraries_told(inherited: Mapping[str, str], options: RuntimeOptions) -> dict[str, str]:
    """Add the variables by which numpy, PyTorch and Python itself go.

    Args:
        inherited: what the worker has of the server's environment.
        options: how the model is run.
    """
    told = dict.fromkeys(_THREADS, str(options.threads)) if options.threads else {}
    if not options.allow_spinning and _SPIN not in inherited:
        told[_SPIN] = _SPIN_CYCLES_LOG2
    if options.deterministic:
        told["PYTHONHASHSEED"] = "0"
    return {**inherited, **told}
