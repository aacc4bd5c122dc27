"""The gates' order, and what a refused publisher is told."""

from __future__ import annotations

import pytest

from pelton.errors import Code, Conflict, LoadFailed, ModelFailed
from pelton.lifecycle.gates import ORDER, TASKS, Gate, Refused, at_gate


def test_the_order() -> None:
    assert [str(gate) for gate in ORDER] == ["receive", "check", "load", "warm", "golden", "swap"]
    assert set(TASKS) == set(Gate)


def test_a_refusal_names_gate_reason_and_numbers_and_is_load_failed_to_callers() -> None:
    refused = Refused(Gate.GOLDEN, "output 'y' is not finite", {"elements": 3})
    assert isinstance(refused, LoadFailed)
    assert refused.code is Code.LOAD_FAILED
    assert refused.message == "refused at the gate 'golden': output 'y' is not finite"
    assert (refused.gate, refused.numbers) == (Gate.GOLDEN, {"elements": 3})


def test_what_goes_wrong_at_a_gate_is_refused_by_it() -> None:
    message = "gate 'receive': version 3 is there already"
    with pytest.raises(Refused, match=message) as told, at_gate(Gate.RECEIVE):
        raise Conflict("version 3 is there already")
    assert told.value.gate is Gate.RECEIVE
    assert told.value.code is Code.CONFLICT
    assert isinstance(told.value.__cause__, Conflict)


def test_a_model_that_fails_while_it_is_proven_makes_a_load_that_failed() -> None:
    with pytest.raises(Refused) as told, at_gate(Gate.WARM):
        raise ModelFailed("model 'm' raised ValueError")
    assert told.value.code is Code.LOAD_FAILED


def test_a_refusal_stays_that_of_its_own_gate() -> None:
    with pytest.raises(Refused) as told, at_gate(Gate.LOAD):
        raise Refused(Gate.GOLDEN, "slow")
    assert told.value.gate is Gate.GOLDEN


def test_a_mistake_of_ours_is_no_refusal() -> None:
    with pytest.raises(ZeroDivisionError), at_gate(Gate.LOAD):
        raise ZeroDivisionError
