"""What the window chooses, and what must hold for any policy that takes its place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.batching.line import Entry, Line
from pelton.batching.window import Decision, Load, Waiting, WindowPolicy, decide

NOW_S = 100.0
NEVER = math.inf


@dataclass(eq=False)
class Stands:
    rows: int
    group: str | None = "a"
    free_since_s: float = NEVER


def stand(*rows: int, since_s: float = NEVER) -> list[Stands]:
    return [Stands(count, free_since_s=since_s) for count in rows]


def taken(waiting: list[Stands], now_s: float = NOW_S, **policy) -> tuple[int, ...]:
    return decide(waiting, WindowPolicy(**policy), now_s).take


# Who shares a run


def test_nobody_waits() -> None:
    assert decide([], WindowPolicy(max_rows=8, max_delay_s=1.0), NOW_S) == Decision((), NEVER)


def test_one_who_is_alone_goes_at_once() -> None:
    assert taken(stand(1), max_rows=8) == (0,)


def test_all_who_fit_go_together_in_order() -> None:
    assert taken(stand(1, 2, 1), max_rows=8) == (0, 1, 2)
    assert taken(stand(1, 2, 1, 1, 1), max_rows=4) == (0, 1, 2)


@pytest.mark.parametrize(
    ("rows", "instances", "take"),
    [
        ((1, 1, 1, 1), 4, (0,)),
        ((1, 1, 1, 1, 1), 4, (0, 1)),
        ((1, 1, 1, 1), 2, (0, 1)),
        ((3, 1, 1, 1), 4, (0,)),  # its share is 2 rows, but the first is never split
        ((1,) * 20, 2, (0, 1, 2, 3, 4, 5, 6, 7)),  # the bound comes before the share
        ((1, 1, 1), 1, (0, 1, 2)),
    ],
)
def test_of_several_instances_each_takes_its_share(
    rows: tuple[int, ...], instances: int, take: tuple[int, ...]
) -> None:
    policy = WindowPolicy(max_rows=8, instances=instances)
    assert decide(stand(*rows), policy, NOW_S, Load(sum(rows), 9)).take == take


@pytest.mark.parametrize(
    ("waiting", "take"), [(1, 1), (4, 1), (8, 1), (9, 2), (12, 2), (13, 3), (40, 8)]
)
def test_rows_that_are_spared_do_not_count_for_the_share(waiting: int, take: int) -> None:
    policy = WindowPolicy(max_rows=8, instances=4, spared_rows=4)
    assert len(decide(stand(*[1] * waiting), policy, NOW_S, Load(waiting, 9)).take) == take


@pytest.mark.parametrize(
    ("waiting", "running", "take"),
    [(4, 12, 4), (4, 4, 2), (4, 9, 4), (1, 12, 1), (40, 32, 8), (12, 0, 3)],
)
def test_where_no_instance_is_ever_idle_the_share_is_of_what_runs_as_well(
    waiting: int, running: int, take: int
) -> None:
    policy = WindowPolicy(max_rows=8, instances=4, spared_rows=4, saturated=True)
    assert len(decide(stand(*[1] * waiting), policy, NOW_S, Load(waiting, running)).take) == take


def test_who_waits_on_purpose_waits_for_a_whole_batch() -> None:
    policy = WindowPolicy(max_rows=8, max_delay_s=1.0, instances=4)
    assert decide(stand(1, 1, 1, 1), policy, NOW_S, Load(4, 4)) == Decision((), NOW_S + 1.0)


def test_without_batching_each_runs_alone() -> None:
    assert taken(stand(1, 1)) == (0,)


def test_one_that_is_larger_than_a_batch_runs_alone_and_whole() -> None:
    assert taken(stand(9, 1), max_rows=8) == (0,)
    assert taken(stand(1, 9, 1), max_rows=8) == (0,)


def test_one_without_a_group_runs_alone() -> None:
    waiting = [Stands(1, None), Stands(1, None), Stands(1)]
    assert taken(waiting, max_rows=8) == (0,)
    assert taken([Stands(1), *waiting], max_rows=8) == (0, 3)


def test_other_groups_are_passed_over() -> None:
    waiting = [Stands(1, "b"), Stands(1), Stands(1, "b"), Stands(1), Stands(1, "b")]
    assert taken(waiting, max_rows=8) == (0, 2, 4)
    assert taken(waiting, max_rows=2) == (0, 2)


def test_a_big_one_is_not_overtaken_by_a_small_one_of_its_group() -> None:
    assert taken(stand(3, 6, 1), max_rows=8) == (0,)


def test_the_search_ends_where_the_batch_is_full() -> None:
    class Watched(list):
        seen = 0

        def __iter__(self):
            for one in super().__iter__():
                self.seen += 1
                yield one

    waiting = Watched(stand(*[1] * 5000))
    assert taken(waiting, max_rows=32) == tuple(range(32))
    assert waiting.seen == 32


# Waiting on purpose


def test_with_a_delay_a_batch_waits_until_its_oldest_has_waited_enough() -> None:
    waiting = [*stand(1, since_s=NOW_S - 0.5), *stand(1, since_s=NOW_S - 2.0), *stand(1)]
    policy = WindowPolicy(max_rows=8, max_delay_s=3.0)
    assert decide(waiting, policy, NOW_S) == Decision((), NOW_S + 1.0)
    assert decide(waiting, policy, NOW_S + 1.0) == Decision((0, 1, 2), NEVER)


def test_who_has_not_waited_beside_a_free_instance_yet_begins_to() -> None:
    policy = WindowPolicy(max_rows=8, max_delay_s=3.0)
    assert decide(stand(1, 1), policy, NOW_S) == Decision((), NOW_S + 3.0)


def test_the_delay_of_another_group_is_none_of_the_batchs_business() -> None:
    waiting = [Stands(1), Stands(1, "b", NOW_S - 9.0)]
    assert decide(waiting, WindowPolicy(8, 3.0), NOW_S) == Decision((), NOW_S + 3.0)


@pytest.mark.parametrize("rows", [(4, 4), (8,), (7, 2), (9,), (1, 9)])
def test_a_full_batch_does_not_wait(rows: tuple[int, ...]) -> None:
    assert taken(stand(*rows), max_rows=8, max_delay_s=3.0)


def test_one_without_a_group_does_not_wait() -> None:
    assert taken([Stands(1, None)], max_rows=8, max_delay_s=3.0) == (0,)


@pytest.mark.parametrize(
    ("rows", "take"),
    [
        ((1, 1, 1), ()),
        ((1, 1, 1, 1), (0, 1, 2, 3)),
        ((1, 1, 1, 1, 1), (0, 1, 2, 3)),
        ((2,) * 4, (0, 1, 2, 3)),
        ((2,) * 5, (0, 1, 2, 3)),
        ((3, 3), ()),  # 6 rows may still become 8
        ((3, 3, 3), (0, 1, 2)),  # 9 cannot
        ((4, 3, 3), (0,)),
        ((16,), (0,)),
        ((1,) * 16, tuple(range(16))),  # full comes first
    ],
)
def test_a_preferred_size_does_not_wait(rows: tuple[int, ...], take: tuple[int, ...]) -> None:
    policy = WindowPolicy(max_rows=16, max_delay_s=3.0, preferred_rows=(4, 8))
    assert decide(stand(*rows), policy, NOW_S).take == take


def test_preferred_sizes_change_nothing_where_nobody_waits_on_purpose() -> None:
    assert taken(stand(*[1] * 5), max_rows=16, preferred_rows=(4,)) == (0, 1, 2, 3, 4)


# What any policy has to keep

standing = st.lists(
    st.builds(
        Stands,
        rows=st.integers(1, 12),
        group=st.sampled_from(["a", "b", None]),
        free_since_s=st.sampled_from([NOW_S - 5.0, NOW_S - 1.0, NOW_S, NEVER]),
    ),
    max_size=30,
)
policies = st.builds(
    WindowPolicy,
    max_rows=st.integers(1, 16),
    max_delay_s=st.sampled_from([0.0, 0.5, 3.0]),
    preferred_rows=st.lists(st.integers(1, 20), unique=True, max_size=3).map(
        lambda sizes: tuple(sorted(sizes))
    ),
)


@given(standing, policies)
def test_whatever_is_taken_may_run_together(waiting: list[Stands], policy: WindowPolicy) -> None:
    decision = decide(waiting, policy, NOW_S)
    take = decision.take
    batch = [waiting[position] for position in take]
    assert list(take) == sorted(set(take))
    assert len({one.group for one in batch}) <= 1
    assert len(batch) <= 1 or batch[0].group is not None
    assert len(batch) <= 1 or sum(one.rows for one in batch) <= policy.max_rows


@given(standing, policies)
def test_the_first_goes_first_or_is_waited_for(waiting: list[Stands], policy: WindowPolicy) -> None:
    decision = decide(waiting, policy, NOW_S)
    if decision.take:
        assert decision.take[0] == 0
        assert decision.wake_s == NEVER
    elif waiting:
        assert policy.max_delay_s > 0.0
        assert NOW_S < decision.wake_s <= NOW_S + policy.max_delay_s
    else:
        assert decision.wake_s == NEVER


@given(standing, policies)
def test_nobody_is_overtaken_by_one_of_the_same_group(
    waiting: list[Stands], policy: WindowPolicy
) -> None:
    take = decide(waiting, policy, NOW_S).take
    if take and waiting[0].group is not None:
        group = [place for place, one in enumerate(waiting) if one.group == waiting[0].group]
        assert tuple(group[: len(take)]) == take


@given(standing, policies)
def test_whoever_asks_again_in_time_is_not_sent_away_twice(
    waiting: list[Stands], policy: WindowPolicy
) -> None:
    decision = decide(waiting, policy, NOW_S)
    if waiting and not decision.take:
        for one in waiting:
            one.free_since_s = min(one.free_since_s, NOW_S)
        assert decide(waiting, policy, decision.wake_s).take


@given(standing, st.integers(1, 16))
def test_without_a_delay_the_batch_could_not_be_larger(
    waiting: list[Stands], max_rows: int
) -> None:
    take = decide(waiting, WindowPolicy(max_rows), NOW_S).take
    assert bool(take) == bool(waiting)
    if not waiting or waiting[0].group is None:
        return
    rows = sum(waiting[position].rows for position in take)
    later = [one for one in waiting[take[-1] + 1 :] if one.group == waiting[0].group]
    assert not later or rows + later[0].rows > max_rows


# Window and line together


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["a", "b", "c", None]), st.integers(0, 9)),
        max_size=60,
    ),
    st.integers(1, 16),
)
def test_every_request_runs_exactly_once_and_none_waits_for_ever(items, max_rows: int) -> None:
    line: Line[Entry] = Line(10_000, 10_000)
    came = []
    for index, (rows, group, priority) in enumerate(items):
        came.append(Entry(rows=rows, bytes=1, arrived_s=index / 8, group=group, priority=priority))
        assert line.put(came[-1])
    served: list[Entry] = []
    while len(line):
        first = line.in_order()[0]
        batch = line.take(decide(line.in_order(), WindowPolicy(max_rows), NOW_S).take)
        assert batch[0] is first
        served += batch
    assert sorted(map(id, served)) == sorted(map(id, came))


@given(standing, st.sampled_from(["a", "b", None]), st.integers(1, 12), st.integers(1, 16))
def test_who_has_so_many_in_front_is_served_in_as_many_runs(
    in_front: list[Stands], group: str | None, rows: int, max_rows: int
) -> None:
    patient = Stands(rows, group)
    waiting = [*in_front, patient]
    for _ in range(len(in_front) + 1):
        take = decide(waiting, WindowPolicy(max_rows), NOW_S).take
        if waiting.index(patient) in take:
            return
        waiting = [one for place, one in enumerate(waiting) if place not in take]
        waiting += stand(*[1] * 5)  # an endless stream that would fit into any batch
    raise AssertionError("it was passed over for too long")


def test_an_entry_of_the_line_is_what_the_window_sees() -> None:
    entry: Waiting = Entry(rows=1, bytes=1, arrived_s=0.0)
    assert decide([entry], WindowPolicy(), NOW_S).take == (0,)
