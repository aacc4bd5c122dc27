"""Which version answers after a start, and which one a rollback leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pelton.errors import LoadFailed
from pelton.lifecycle.shelf import Shelf
from pelton.records import PublishedVersion, Swap, VersionState
from pelton.repository.scan import FoundModel
from pelton.specs import ALL_VERSIONS, ModelSpec, VersionPolicy


def shelf(
    *versions: int, policy: VersionPolicy = ALL_VERSIONS, broken: tuple[int, ...] = ()
) -> Shelf:
    one = Shelf("m")
    found: dict[int, ModelSpec | LoadFailed] = {
        version: ModelSpec("m", version, Path("m"), "onnx", policy=policy) for version in versions
    }
    found |= {version: LoadFailed("broken") for version in broken}
    one.found = FoundModel("m", dict(sorted(found.items())))
    return one


def swap(before: int | None, after: int, cause: str = "publish", **numbers: str) -> Swap:
    return Swap("m", before, after, cause, numbers, 0.0, "")


def row(version: int, state: VersionState, reason: str = "") -> PublishedVersion:
    return PublishedVersion("m", version, "", state, reason, 0.0, "")


LATEST, ONLY = VersionPolicy(), VersionPolicy(None, (1, 2))


@pytest.mark.parametrize(
    ("there", "policy", "latest", "known", "active", "chosen"),
    [
        ((1, 2, 10), LATEST, None, (), 10, (10,)),
        ((1, 2, 10), ALL_VERSIONS, None, (), 10, (1, 2, 10)),
        ((1, 2), LATEST, swap(1, 2), (1, 2), 2, (2,)),
        ((1, 2), LATEST, swap(2, 1, "rollback"), (1, 2), 1, (1,)),
        ((1, 2), LATEST, swap(2, 1, "probation"), (1, 2), 1, (1,)),
        ((1, 2, 3), LATEST, swap(2, 1, "rollback"), (1, 2), 3, (3,)),
        ((1, 2, 3), LATEST, swap(1, 2), (1, 2, 3), 2, (3,)),
        ((1, 3), LATEST, swap(1, 2), (1, 2), 3, (3,)),
        ((1,), LATEST, swap(1, 2), (1, 2), 1, (1,)),
        ((2,), LATEST, swap(2, 1, "rollback"), (1, 2), 2, (2,)),
        ((1, 2, 3), ONLY, swap(2, 3), (1, 2, 3), 2, (1, 2)),
        ((1, 2), ONLY, swap(2, 1, "rollback"), (1, 2), 1, (1,)),
        ((1, 2, 3, 4), LATEST, swap(4, 1, "rollback"), (1, 2, 3, 4), 1, (1,)),
        ((1, 2, 3, 4), ALL_VERSIONS, swap(4, 1, "rollback"), (1, 2, 3, 4), 1, (1, 2, 3)),
        ((), LATEST, None, (), None, ()),
    ],
    ids=[
        "largest", "all", "published", "rolled back", "taken back", "newer by hand",
        "killed before the swap was kept", "that one is gone", "both are gone",
        "only the withdrawn one is left", "the policy changed", "policy and rollback", "far back", "far back of all",
        "nothing",
    ],
)  # fmt: skip
def test_what_answers_after_a_start(there, policy, latest, known, active, chosen) -> None:
    one = shelf(*there, policy=policy)
    one.remember([], latest)
    assert one.active(known) == active
    assert one.chosen() == chosen


def test_what_was_withdrawn_stays_away(tmp_path: Path) -> None:
    one = shelf(1, 2, 3)
    one.remember(
        [row(2, VersionState.WITHDRAWN, "too slow"), row(3, VersionState.PUBLISHED)], swap(1, 3)
    )
    assert one.chosen() == (1, 3)
    assert one.failed == {2: "too slow"}
    one.switched(swap(3, 1, "probation", reason="1 of 2 requests failed"))
    assert one.failed == {2: "too slow", 3: "1 of 2 requests failed"}
    one.switched(swap(1, 2, "load"))
    assert one.withdrawn == {3}


@pytest.mark.parametrize(
    ("latest", "before"),
    [
        (None, None),
        (swap(1, 2), 1),
        (swap(None, 2), None),
        (swap(2, 2, "load"), None),
        (swap(2, 1, "rollback"), None),
        (swap(2, 1, "probation"), None),
        (swap(7, 2), None),
        (swap(4, 2), None),
    ],
)
def test_where_a_rollback_leads(latest: Swap | None, before: int | None) -> None:
    one = shelf(1, 2, broken=(4,))
    one.remember([], latest)
    assert one.before() == before
