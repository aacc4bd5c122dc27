"""Which models go so that another fits, and what is said when none may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import LoadFailed, Unavailable
from pelton.lifecycle.memory_budget import Resident, make_room


def resident(name: str, size: int, used: float = 0.0, **how: bool) -> Resident:
    return Resident(name, size, how.get("pinned", False), how.get("busy", False), used)


def test_nobody_goes_while_there_is_room() -> None:
    assert make_room("new", 50, [resident("a", 50)], 100) == ()


def test_the_least_recently_used_goes_first() -> None:
    residents = [resident("b", 30, 2.0), resident("a", 30, 1.0), resident("c", 30, 3.0)]
    assert make_room("new", 40, residents, 100) == ("a",)
    assert make_room("new", 50, residents, 100) == ("a", "b")


def test_pinned_and_busy_models_stay() -> None:
    residents = [
        resident("pinned", 30, 1.0, pinned=True),
        resident("busy", 30, 2.0, busy=True),
        resident("idle", 30, 3.0),
    ]
    assert make_room("new", 40, residents, 100) == ("idle",)


def test_a_small_model_stays_if_a_large_one_has_to_go_anyway() -> None:
    residents = [resident("small", 10, 1.0), resident("large", 80, 2.0), resident("young", 10, 3.0)]
    assert make_room("new", 70, residents, 100) == ("large",)


def test_where_requests_are_in_the_way_another_try_is_sensible() -> None:
    with pytest.raises(Unavailable) as told:
        make_room("new", 60, [resident("a", 50, busy=True)], 100)
    assert told.value.retry_after_s == 1.0
    assert told.value.message == (
        "model 'new' needs 60 bytes of the 100 that all may take, and those that are loaded are "
        "busy; try again later, or raise max_models_bytes"
    )


@pytest.mark.parametrize(
    "residents", [[], [resident("a", 50, pinned=True)], [resident("a", 50, busy=True, pinned=True)]]
)
def test_where_it_can_never_fit_the_cure_is_told(residents: list[Resident]) -> None:
    with pytest.raises(LoadFailed, match="raise max_models_bytes, or pin fewer models"):
        make_room("new", 101 - sum(one.bytes for one in residents), residents, 100)


@given(
    sizes=st.lists(
        st.tuples(st.integers(0, 40), st.booleans(), st.booleans(), st.integers(0, 5)), max_size=8
    ),
    needed=st.integers(0, 120),
)
def test_what_is_chosen_suffices_and_nothing_of_it_is_spare(
    sizes: list[tuple[int, bool, bool, int]], needed: int
) -> None:
    residents = [Resident(str(n), *facts) for n, facts in enumerate(sizes)]
    used = sum(one.bytes for one in residents)
    idle = [one for one in residents if not one.pinned and not one.busy]
    try:
        names = make_room("new", needed, residents, 100)
    except (LoadFailed, Unavailable):
        assert used - sum(one.bytes for one in idle) + needed > 100
        return
    chosen = [one for one in residents if one.name in names]
    assert all(one in idle for one in chosen)
    left = used - sum(one.bytes for one in chosen) + needed
    assert not chosen or left <= 100
    assert all(left + one.bytes > 100 for one in chosen), "each of them has to go"
