"""What a `model.toml` may say of threads, queues and batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pelton.errors import LoadFailed
from pelton.repository.model_toml import read_model_toml
from pelton.repository.scan import scan
from pelton.repository.serving_toml import IN_BATCHING, SERVING
from pelton.specs import Batching, Serving
from repository.folders import CLAIMS, toml, tree

WHOLE = """
    isolation = "process"
    instances = 2
    threads = "auto"
    optimize_for = "latency"
    deterministic = true
    max_queue_rows = 64
    max_queue_bytes = 1_000_000
    request_timeout_s = 2
    hang_grace_s = 0.5
    worker_max_bytes = 2_000_000
    cache = true
    cache_ttl_s = 600
    cache_max_bytes = 1_000_000
    cache_objects = true

    [batching]
    max_batch_rows = 16
    max_delay_ms = 2
    preferred_batch_rows = [4, 8]
    target_p99_ms = 50.5
    pad = true
"""


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(LoadFailed) as error:
        read_model_toml(toml(folder, text), "net")
    assert error.value.message.startswith("net/model.toml: ")
    return error.value.message.removeprefix("net/model.toml: ")


def test_every_key_is_read(tmp_path: Path) -> None:
    assert read_model_toml(toml(tmp_path, WHOLE), "net").serving == {
        "isolation": "process",
        "instances": 2,
        "threads": 0,
        "optimize_for": "latency",
        "deterministic": True,
        "max_queue_rows": 64,
        "max_queue_bytes": 1_000_000,
        "request_timeout_s": 2.0,
        "hang_grace_s": 0.5,
        "worker_max_bytes": 2_000_000,
        "cache": True,
        "cache_ttl_s": 600.0,
        "cache_max_bytes": 1_000_000,
        "cache_objects": True,
        "batching": {
            "max_batch_rows": 16,
            "max_delay_ms": 2.0,
            "preferred_batch_rows": (4, 8),
            "target_p99_ms": 50.5,
            "pad": True,
        },
    }


def test_the_keys_are_the_fields_of_the_words() -> None:
    assert {*SERVING, "batching"} == {field.name for field in dataclasses.fields(Serving)}
    assert set(IN_BATCHING) == {field.name for field in dataclasses.fields(Batching)}


def test_what_is_not_said_is_not_there(tmp_path: Path) -> None:
    assert read_model_toml(toml(tmp_path, "[batching]\n"), "net").serving == {}


def test_a_versions_word_comes_before_the_models_key_by_key(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/a.onnx")
    toml(tmp_path / "net", "threads = 1\ninstances = 3\n[batching]\npad = true\nmax_batch_rows = 4")
    toml(tmp_path / "net/1", "threads = 2\n[batching]\nmax_batch_rows = 8")
    (spec,) = scan(tmp_path, CLAIMS)
    assert spec.serving == {
        "threads": 2,
        "instances": 3,
        "batching": {"pad": True, "max_batch_rows": 8},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("isolation = 'thread'", '`isolation` is \'thread\'; it must be "auto" or "process" or '),
        ("isolation = ['inline']", "`isolation` is ['inline']; it must be "),
        ("instances = -1", '`instances` is -1; it must be "auto" or a whole number from 0 to 256'),
        ("instances = 2.0", "`instances` is 2.0; it must be"),
        ("threads = true", "`threads` is True; it must be"),
        ("threads = 'many'", "`threads` is 'many'; it must be"),
        ("optimize_for = 'speed'", '`optimize_for` is \'speed\'; it must be "throughput" or "lat'),
        ("deterministic = 1", "`deterministic` is 1; it must be true or false"),
        ("max_queue_rows = 0", "`max_queue_rows` is 0; it must be a whole number from 1 to"),
        ("max_queue_bytes = '1MiB'", "`max_queue_bytes` is '1MiB'; it must be a whole number"),
        ("request_timeout_s = 0", "`request_timeout_s` is 0; it must be a number of seconds, more"),
        ("request_timeout_s = nan", "`request_timeout_s` is nan; it must be a number of seconds"),
        ("hang_grace_s = inf", "`hang_grace_s` is inf; it must be a number of seconds"),
        ("hang_grace_s = true", "`hang_grace_s` is True; it must be a number of seconds"),
        ("cache = 'yes'", "`cache` is 'yes'; it must be true or false"),
        ("cache_ttl_s = 0", "`cache_ttl_s` is 0; it must be a number of seconds, more"),
        ("batching = 1", "`batching` must be a table"),
        ("[batching]\nmax_batch_rows = 65537", "`max_batch_rows` in [batching] is 65537; it must"),
        (
            "[batching]\nmax_delay_ms = -1",
            "`max_delay_ms` in [batching] is -1; it must be a number of milliseconds, at least 0",
        ),
        ("[batching]\npreferred_batch_rows = [8, 4]", "each larger than the last"),
        ("[batching]\npreferred_batch_rows = [4, 4]", "each larger than the last"),
        ("[batching]\npreferred_batch_rows = [0, 4]", "whole numbers from 1, each larger"),
        ("[batching]\npreferred_batch_rows = 4", "it must be a list of at most 64 whole numbers"),
        ("[batching]\npad = 'yes'", "`pad` in [batching] is 'yes'; it must be true or false"),
        # Keys at the wrong place, and misspelt ones.
        ("max_batch_rows = 4", "write `max_batch_rows` into the table [batching]"),
        ("[batching]\nthreads = 4", "write `threads` at the top, above every [table]"),
        ("[options]\nthreads = 4", "write `threads` at the top, above every [table]"),
        ("[options]\nintra_op_threads = 4", "write `threads` at the top, above every [table]"),
        ("[options]\npad = true", "write `pad` into the table [batching]"),
        ("instance = 4", "unknown key `instance`; did you mean `instances`?"),
        ("[batching]\nmax_batch = 4", "unknown key `max_batch` in [batching]; did you mean `max_b"),
    ],
)
def test_what_is_not_as_it_must_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert said in message
    assert "\n" not in message
