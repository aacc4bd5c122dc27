"""What changes in a folder of models, told once it has come to rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import LoadFailed
from pelton.repository import watching
from pelton.repository.watching import Kind, Place, Snapshot, Stamp, Watched, compare, look
from repository.folders import tree


def snapshot(**places: int) -> Snapshot:
    """Make a snapshot: `net_2=5` says that version 2 of `net` looks like 5; `net` has no version."""
    made = {}
    for name, state in places.items():
        model, _, version = name.partition("_")
        place = Place(model, int(version) if version else None)
        made[place] = frozenset({Stamp(f"{name}/m", state, 1, 1)})
    return made


def told(*looks: Snapshot) -> list[list[tuple[str, int | None, str]]]:
    """Return what each look after the first tells."""
    watched, changes = Watched.at_start(looks[0]), []
    for now in looks[1:]:
        watched, seen = compare(watched, now)
        changes.append([(*one.place, one.kind.value) for one in seen])
    return changes


def test_nothing_happens() -> None:
    assert told(snapshot(net_1=1), snapshot(net_1=1), snapshot(net_1=1)) == [[], []]


def test_a_new_version_is_told_once_it_rests() -> None:
    old, half, whole = snapshot(net_1=1), snapshot(net_1=1, net_2=1), snapshot(net_1=1, net_2=2)
    assert told(old, half, whole, whole, whole) == [[], [], [("net", 2, "added")], []]


def test_a_change_and_a_removal_are_told_once_they_rest() -> None:
    before, after, gone = snapshot(net_1=1, b_1=1), snapshot(net_1=2, b_1=1), snapshot(b_1=1)
    assert told(before, after, after, gone, gone) == [
        [],
        [("net", 1, "changed")],
        [],
        [("net", 1, "removed")],
    ]


def test_what_comes_and_goes_between_two_looks_is_never_told() -> None:
    assert told(snapshot(a=1), snapshot(a=1, b_1=1), snapshot(a=1), snapshot(a=1)) == [[], [], []]
    # A folder that is renamed away and back is whole again.
    assert told(snapshot(a=1), {}, snapshot(a=1), snapshot(a=1)) == [[], [], []]


def test_what_stands_beside_comes_first_and_versions_are_numbers() -> None:
    now = snapshot(net_10=1, net_9=1, net=1, a_1=1)
    assert told({}, now, now)[-1] == [
        ("a", 1, "added"),
        ("net", None, "added"),
        ("net", 9, "added"),
        ("net", 10, "added"),
    ]


states = st.dictionaries(st.sampled_from(["a_1", "a_2", "a", "b_1"]), st.integers(1, 2))


@given(st.lists(states.map(lambda places: snapshot(**places)), min_size=1, max_size=8))
def test_following_the_changes_leads_to_what_is_there(looks: list[Snapshot]) -> None:
    watched, known = Watched.at_start(looks[0]), set(looks[0])
    for now in [*looks[1:], looks[-1], looks[-1]]:
        watched, seen = compare(watched, now)
        for place, kind in seen:
            assert (place in known) == (kind is not Kind.ADDED)
            known = known - {place} if kind is Kind.REMOVED else known | {place}
    assert known == set(looks[-1])
    assert watched.settled == looks[-1]


# What a look sees.


def places(root: Path) -> dict[tuple[str, int | None], list[str]]:
    return {tuple(place): sorted(one.path for one in seen) for place, seen in look(root).items()}


def test_files_are_told_by_model_and_version(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "net/model.toml",
        "net/configs/x.pbtxt",
        "net/1/m.onnx",
        "net/10/sub/weights",
        "net/01/stray",
        "flat/model.py",
        "README.md",
    )
    assert places(tmp_path) == {
        ("net", None): ["net/01/stray", "net/configs/x.pbtxt", "net/model.toml"],
        ("net", 1): ["net/1/m.onnx"],
        ("net", 10): ["net/10/sub/weights"],
        ("flat", None): ["flat/model.py"],
    }


def test_what_is_hidden_or_empty_is_passed_over(tmp_path: Path) -> None:
    tree(
        tmp_path,
        ".staging/1/m.onnx",
        "net/.2.part/m.onnx",
        "net/1/.cache/x",
        "net/1/__pycache__/m.pyc",
        "net/3/",
        "net/2/m.onnx",
    )
    assert places(tmp_path) == {("net", 2): ["net/2/m.onnx"]}


def test_a_rewritten_file_is_another_even_of_the_same_size_and_time(tmp_path: Path) -> None:
    path = tree(tmp_path, "net/1/m.onnx") / "net/1/m.onnx"
    before, status = look(tmp_path), path.stat()
    assert look(tmp_path) == before
    replaced = tmp_path / "net" / ".new"
    replaced.touch()
    replaced.rename(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert look(tmp_path) != before


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "m.onnx")
    root = tree(tmp_path / "root", "net/1/m.onnx")
    (root / "net/2").symlink_to(tmp_path / "elsewhere")
    (root / "net/1/loop").symlink_to(root / "net/1")
    (root / "net/1/up").symlink_to(root)
    (root / "net/1/nowhere").symlink_to(root / "gone")
    (root / "net/1/self").symlink_to("self")
    seen = places(root)
    assert seen["net", 2] == ["net/2/m.onnx"]
    assert "net/1/m.onnx" in seen["net", 1]
    assert len(seen["net", 1]) < 10


def test_a_folder_that_is_gone_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="the folder of models cannot be read: No such file"):
        look(tmp_path / "gone")


def test_the_number_of_files_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "net/1/a", "net/1/b", "net/2/c")
    monkeypatch.setattr(watching, "MAX_FILES", 3)
    assert len(look(tmp_path)) == 2
    tree(tmp_path, "net/2/d")
    with pytest.raises(LoadFailed, match="more than 3 files"):
        look(tmp_path)
