"""Where the time went, as header and as parameters, both ways."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pelton.messages import InferResponse, Timing
from pelton.wire.oip_message import ReplyPlan
from pelton.wire.oip_response import encode_response
from pelton.wire.timing import read_timing, read_timing_header, timing_header, timing_parameters
from wire.oip_bodies import ANY_MODEL

TIMING = Timing(120e-6, 0.0, 1.0, 85.4e-6, 14.6e-6)
TEXT = "receive=120, queue=0, batch_wait=1000000, compute=85, encode=15"
PARAMETERS = {
    "receive_us": 120,
    "queue_us": 0,
    "batch_wait_us": 1000000,
    "compute_us": 85,
    "encode_us": 15,
}


def test_whole_microseconds_in_the_order_of_the_parts() -> None:
    assert timing_header(TIMING) == TEXT
    assert timing_parameters(TIMING) == PARAMETERS


def test_what_was_told_is_read() -> None:
    rounded = Timing(120e-6, 0.0, 1.0, 85e-6, 15e-6)
    assert read_timing_header(TEXT) == rounded
    assert read_timing(PARAMETERS) == rounded
    assert read_timing({**PARAMETERS, "digest": "x"}) == rounded


@pytest.mark.parametrize("value", ["", "1", "receive=1", TEXT.replace("=85", "=-85"), "=" * 9999])
def test_anything_else_is_no_timing(value: str) -> None:
    assert read_timing_header(value) is None
    assert read_timing({"receive_us": 1}) is None
    assert read_timing(PARAMETERS | {"queue_us": "0"}) is None


def test_parameters_of_a_response_are_asked_for_last() -> None:
    written = []

    class Noted:
        """Becomes an array when it is written."""

        def __array__(self, *_arguments, **_further):
            written.append("tensor")
            return np.zeros(2, np.float32)

    def told():
        assert written
        return {"receive_us": 1}

    answer = InferResponse("m", "1", {"y": Noted()}, "7", digest="sha256:ab")
    (said,) = encode_response(answer, ReplyPlan(), ANY_MODEL, told).chunks
    assert json.loads(said) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "parameters": {"receive_us": 1, "digest": "sha256:ab"},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [0.0, 0.0]}],
    }


def test_a_digest_is_told_without_being_asked_for() -> None:
    answer = InferResponse("m", "1", {"y": np.zeros(1)}, digest="sha256:ab")
    (said,) = encode_response(answer, ReplyPlan(), ANY_MODEL).chunks
    assert json.loads(said)["parameters"] == {"digest": "sha256:ab"}
    answer.digest = ""
    (said,) = encode_response(answer, ReplyPlan(), ANY_MODEL).chunks
    assert "parameters" not in json.loads(said)
