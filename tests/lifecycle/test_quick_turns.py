"""Turns are quick while anybody wants them to be, and no longer."""

from __future__ import annotations

import sys

import pytest

from pelton.lifecycle.quick_turns import TURN_S, QuickTurns


def test_turns_are_quick_until_the_last_has_left() -> None:
    usual_s = sys.getswitchinterval()
    turns = QuickTurns()

    def fail() -> None:
        with turns:
            assert sys.getswitchinterval() == pytest.approx(TURN_S)
            raise ZeroDivisionError

    with turns:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    assert sys.getswitchinterval() == usual_s
    with turns:
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    assert sys.getswitchinterval() == usual_s
