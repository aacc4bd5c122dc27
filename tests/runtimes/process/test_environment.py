"""What the libraries of a worker are told."""

from __future__ import annotations

import pytest

from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.environment import with_libraries_told

SPIN = "OPENBLAS_THREAD_TIMEOUT"


def test_every_library_is_told_the_same_number_of_threads() -> None:
    told = with_libraries_told({"OMP_NUM_THREADS": "64", "HOME": "/h"}, RuntimeOptions(threads=3))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    assert [told[name] for name in names] == ["3", "3", "3"]
    assert told["HOME"] == "/h"


def test_without_a_number_what_is_inherited_holds() -> None:
    told = with_libraries_told({"OMP_NUM_THREADS": "64"}, RuntimeOptions(threads=0))
    assert told["OMP_NUM_THREADS"] == "64"
    assert "MKL_NUM_THREADS" not in told


@pytest.mark.parametrize(
    ("inherited", "allow_spinning", "told"),
    [({}, False, "18"), ({}, True, None), ({SPIN: "22"}, False, "22")],
)
def test_idle_threads_sleep_soon_unless_somebody_wants_otherwise(
    inherited: dict[str, str], allow_spinning: bool, told: str | None
) -> None:
    options = RuntimeOptions(allow_spinning=allow_spinning)
    assert with_libraries_told(inherited, options).get(SPIN) == told


def test_hashes_are_the_same_in_every_worker_only_where_answers_must_be() -> None:
    assert with_libraries_told({}, RuntimeOptions(deterministic=True))["PYTHONHASHSEED"] == "0"
    assert "PYTHONHASHSEED" not in with_libraries_told({}, RuntimeOptions())
