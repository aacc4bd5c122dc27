"""The table of a version's states allows what its picture says, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from pelton.engine.model_states import (
    INDEX_NAME,
    MOVES,
    SERVING,
    TERMINAL,
    IllegalTransition,
    Standing,
    State,
    move,
)

ALLOWED = {
    (State.UNLOADED, State.LOADING),
    (State.FAILED, State.LOADING),
    (State.LOADING, State.WARMING),
    (State.LOADING, State.FAILED),
    (State.LOADING, State.UNLOADED),
    (State.WARMING, State.READY),
    (State.WARMING, State.FAILED),
    (State.WARMING, State.UNLOADED),
    (State.READY, State.DRAINING),
    (State.DRAINING, State.UNLOADED),
    (State.DRAINING, State.FAILED),
}


@pytest.mark.parametrize(("before", "after"), [*itertools.product(State, State)])
def test_only_the_moves_of_the_picture_are_legal(before: State, after: State) -> None:
    if (before, after) in ALLOWED:
        assert move(before, after) is after
    else:
        with pytest.raises(IllegalTransition, match=f"{before} does not lead to {after}"):
            move(before, after)


def test_a_whole_life() -> None:
    standing = Standing()
    for state in (State.LOADING, State.WARMING, State.READY, State.DRAINING, State.UNLOADED):
        standing = standing.moved(state)
    assert standing == Standing()


def test_a_failure_has_a_reason_and_may_be_tried_again() -> None:
    failed = Standing(State.LOADING).moved(State.FAILED, "the file is empty")
    assert failed.reason == "the file is empty"
    assert failed.moved(State.LOADING) == Standing(State.LOADING)


@pytest.mark.parametrize(
    ("state", "reason"),
    [(State.FAILED, ""), (State.WARMING, "but why")],
)
def test_a_reason_belongs_to_a_failure(state: State, reason: str) -> None:
    with pytest.raises(IllegalTransition, match="FAILED has one"):
        Standing(State.LOADING).moved(state, reason)


def test_every_state_is_in_every_table() -> None:
    assert set(MOVES) == set(State) == set(INDEX_NAME)


def test_requests_go_to_ready_versions_only() -> None:
    assert {State.READY} == SERVING
    assert [state for state in State if Standing(state, "x" * (state == "FAILED")).serving] == [
        State.READY
    ]


def test_terminal_states_lead_only_to_loading() -> None:
    assert {state for state in State if MOVES[state] == {State.LOADING}} == TERMINAL


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (State.LOADING, "LOADING"),
        (State.WARMING, "LOADING"),
        (State.READY, "READY"),
        (State.DRAINING, "UNLOADING"),
        (State.UNLOADED, "UNAVAILABLE"),
        (State.FAILED, "UNAVAILABLE"),
    ],
)
def test_what_the_repository_index_calls_a_state(state: State, told: str) -> None:
    assert Standing(state, "x" * (state == "FAILED")).index_name == told
