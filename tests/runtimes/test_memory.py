"""A model that is closed gives its memory back, whatever small parts it was made of."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions
from pelton.specs import ModelSpec
from runtimes.small_parts import (
    SIZE_BYTES,
    held_and_left,
    onnx_model,
    python_model,
    torch_model,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and needs glibc")


@pytest.mark.parametrize("make", [onnx_model, torch_model, python_model])
def test_the_memory_of_a_closed_model_is_given_back(
    make: Callable[[Path], ModelSpec], tmp_path: Path
) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        held, left = process.submit(held_and_left, make, tmp_path).result()
    assert held > SIZE_BYTES * 0.9
    assert left < SIZE_BYTES * 0.1


@pytest.mark.parametrize("make", [onnx_model, torch_model])
def test_to_close_a_model_stops_nobody(make: Callable[[Path], ModelSpec], tmp_path: Path) -> None:
    """A full collection would, since it looks at all objects that there are."""
    model = registry.load(make(tmp_path), RuntimeOptions(threads=1))
    collections: list[str] = []
    gc.disable()
    gc.callbacks.append(lambda phase, _: collections.append(phase))
    try:
        model.close()
    finally:
        del gc.callbacks[-1]
        gc.enable()
    assert collections == []


THREADS = """
import ctypes, sys, threading
from pelton.runtimes.memory import share_heaps
if sys.argv[1] == "shared":
    share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(6)
def allocate():
    together.wait()
    assert libc.malloc(ctypes.c_size_t(100_000))
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for one in threads: one.start()
for one in threads: one.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.parametrize("heaps", ["shared", "own"])
def test_threads_share_a_heap_where_models_come_and_go(heaps: str) -> None:
    command = [sys.executable, "-c", THREADS, heaps]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (told.count("<heap nr=") <= 2) is (heaps == "shared")


END_OF_HEAP = """
import ctypes, threading
from pathlib import Path
from pelton.runtimes.memory import give_memory_back, share_heaps
share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
def come_and_go(count):
    blocks = [libc.malloc(ctypes.c_size_t(1_000_000)) for _ in range(count)]
    for block in blocks: ctypes.memset(block, 1, 1_000_000)
    for block in blocks: libc.free(block)
def held_after(count):
    for _ in range(4):  # whichever heap a thread is given
        thread = threading.Thread(target=come_and_go, args=(count,))
        thread.start()
        thread.join()
    give_memory_back()
    return held()
before = held_after(1)
print(held_after(20) - before)
"""


def test_what_is_free_at_the_end_of_the_shared_heap_is_given_back() -> None:
    command = [sys.executable, "-c", END_OF_HEAP]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert abs(int(told)) < 1_000_000
