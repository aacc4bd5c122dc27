"""What an answer tells of the choice."""

from __future__ import annotations

from pelton.routing.choice import told
from routing.asked import request, split, table


def test_an_answer_of_a_split_tells_everything_but_the_unit() -> None:
    routes = table(split(0, 1), 1, 3)
    assert told(routes.choose(request(), "ann")) == (
        "route=digits, version=1, arm=2, probability=1.0, enrolled=yes, forced=no, unit=key"
    )
    assert told(routes.choose(request(version="3"))) == (
        "route=digits, version=3, arm=3, probability=1.0, enrolled=no, forced=yes, unit=request"
    )


def test_other_answers_name_their_version_and_that_is_all() -> None:
    assert told(table().choose(request(), "ann")) is None
    assert told(table().choose(request(version="1"), "ann")) is None
