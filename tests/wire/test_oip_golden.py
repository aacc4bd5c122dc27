"""One request and one response, byte for byte: what is on the wire changes only on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pelton.messages import InferResponse
from pelton.wire.oip_client import decode_response, encode_request
from pelton.wire.oip_message import ReplyPlan, WantedOutput
from pelton.wire.oip_request import decode_request
from pelton.wire.oip_response import encode_response
from wire.oip_bodies import ANY_MODEL, LIMITS

GOLDEN = Path(__file__).parent.parent / "golden" / "oip"

IMAGE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
STATE = np.array([0.5, -1.25, np.inf], np.float32)
TEXTS = np.array([b"pick up", b"", b"\xff\x00"], object)


def test_request() -> None:
    pinned = (GOLDEN / "request.bin").read_bytes()
    message = encode_request(
        {"image": IMAGE, "state": STATE, "gain": STATE, "texts": TEXTS},
        ["action"],
        request_id="r-1",
        parameters={"priority": 1},
        datatypes={"gain": "BF16"},
    )
    assert b"".join(message.chunks) == pinned

    request, plan = decode_request(memoryview(pinned), message.header_bytes, ANY_MODEL, LIMITS)
    assert (request.id, request.outputs, request.priority) == ("r-1", ("action",), 1)
    assert plan == ReplyPlan((WantedOutput("action", True),), False)
    for name, tensor in (("image", IMAGE), ("state", STATE), ("gain", STATE), ("texts", TEXTS)):
        np.testing.assert_array_equal(request.inputs[name], tensor, strict=True)


def test_response() -> None:
    pinned = (GOLDEN / "response.bin").read_bytes()
    plan = ReplyPlan((WantedOutput("scores", False), WantedOutput("top", False, 2)), True)
    outputs = {"action": STATE, "scores": STATE, "top": np.array([[0.25, 0.5]]), "texts": TEXTS}
    message = encode_response(InferResponse("policy", "3", outputs, "r-1"), plan, ANY_MODEL)
    assert b"".join(message.chunks) == pinned

    response = decode_response(memoryview(pinned), message.header_bytes, LIMITS)
    assert (response.model, response.version, response.id) == ("policy", "3", "r-1")
    expected = outputs | {"top": np.array([[b"0.5:1", b"0.25:0"]], object)}
    for name, tensor in expected.items():
        np.testing.assert_array_equal(response.outputs[name], tensor, strict=True)
