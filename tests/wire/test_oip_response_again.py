"""A response that resembles the last one on the same plan is the one that would have been written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pelton.messages import InferResponse, Timing
from pelton.specs import ModelMetadata, TensorSpec
from pelton.wire.oip_message import EncodedMessage, ReplyPlan, WantedOutput
from pelton.wire.oip_response import encode_response
from wire.oip_bodies import ANY_MODEL, model

Y = np.arange(6, dtype=np.float32).reshape(2, 3)
LARGE = np.arange(6000, dtype=np.float32).reshape(2000, 3)
NAMED = (WantedOutput("y", True), WantedOutput("z", True))
BF16 = model(outputs=(TensorSpec("y", "BF16", (-1, 3)),))


def plan_of(*outputs: WantedOutput) -> ReplyPlan:
    return ReplyPlan(outputs, binary=True)


def written(
    plan: ReplyPlan,
    outputs: dict[str, Any],
    metadata: ModelMetadata = ANY_MODEL,
    version: str = "1",
    **further: Any,
) -> tuple[int | None, int, bytes]:
    answer = InferResponse("m", version, outputs, **further)
    message: EncodedMessage = encode_response(answer, plan, metadata)
    return message.header_bytes, message.size, b"".join(bytes(one) for one in message.chunks)


def used(*outputs: WantedOutput, **first: Any) -> ReplyPlan:
    """Return a plan by which the same response has been written several times."""
    plan = plan_of(*outputs)
    for _ in range(3):
        written(plan, **({"outputs": {"y": Y}} | first))
    return plan


OTHERS: dict[str, dict[str, Any]] = {
    "other values": {"outputs": {"y": Y + 1}},
    "another shape": {"outputs": {"y": Y[:1]}},
    "another dtype": {"outputs": {"y": Y.astype(np.int32)}},
    "a byte order that is not the wire's": {"outputs": {"y": Y.astype(">f4")}},
    "columns first": {"outputs": {"y": np.asfortranarray(Y)}},
    "every second": {"outputs": {"y": np.repeat(Y, 2, axis=1)[:, ::2]}},
    "a subclass": {"outputs": {"y": np.ma.masked_array(Y, Y > 2)}},
    "a list": {"outputs": {"y": Y.tolist()}},
    "nothing in it": {"outputs": {"y": Y[:0]}},
    "text": {"outputs": {"y": np.array([["a", "b", "c"]] * 2, np.object_)}},
    "another name": {"outputs": {"q": Y}},
    "one output more": {"outputs": {"y": Y, "z": Y}},
    "none": {"outputs": {}},
    "another version": {"outputs": {"y": Y}, "version": "2"},
    "an id": {"outputs": {"y": Y}, "id": "r-1"},
    "a digest": {"outputs": {"y": Y}, "digest": "sha256:00"},
    "a model with bfloat16": {"outputs": {"y": Y}, "metadata": BF16},
    "timing": {"outputs": {"y": Y}, "timing": Timing(1.0)},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_differs_is_written_as_by_a_plan_that_was_never_used(other: dict[str, Any]) -> None:
    plan = used()
    assert written(plan, **other) == written(plan_of(), **other)
    assert written(plan, {"y": Y}) == written(plan_of(), {"y": Y})


@pytest.mark.parametrize("first", OTHERS.values(), ids=OTHERS)
def test_whatever_came_before_the_usual_response_is_right(first: dict[str, Any]) -> None:
    plan = used(**first)
    for _ in range(3):
        assert written(plan, {"y": Y}) == written(plan_of(), {"y": Y})


def test_outputs_that_are_asked_for_by_name_keep_their_order() -> None:
    plan = used(*NAMED, outputs={"y": Y, "z": Y[0]})
    values = {"y": Y * 2, "z": Y[1]}
    assert written(plan, values) == written(plan_of(*NAMED), values)


def test_classes_are_worked_out_anew() -> None:
    best = WantedOutput("y", True, classification=1)
    plan = used(best)
    other = {"outputs": {"y": Y[:, ::-1].copy()}}
    assert written(plan, **other) == written(plan_of(best), **other)
    assert written(plan, **other) != written(plan, {"y": Y})


def test_large_values_are_sent_from_where_they_lie() -> None:
    plan = used(outputs={"y": LARGE})
    y = LARGE.copy()
    message = encode_response(InferResponse("m", "1", {"y": y}), plan, ANY_MODEL)
    assert np.shares_memory(np.frombuffer(message.chunks[1], np.float32), y)
    columns_first = {"y": np.asfortranarray(LARGE)}
    assert written(plan, columns_first) == written(plan_of(), columns_first)


def test_the_json_part_of_before_is_used_again() -> None:
    plan = used()
    messages = [encode_response(InferResponse("m", "1", {"y": Y}), plan, ANY_MODEL) for _ in "ab"]
    assert messages[0].chunks[0] is messages[1].chunks[0]
