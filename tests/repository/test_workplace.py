"""What killed servers leave is swept; what running ones are working on is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pelton.errors import SettingsError
from pelton.repository.publishing import Publisher
from pelton.repository.workplace import HIDDEN, Workplace, sweep
from repository.uploads import hidden, staged


def work(root: Path) -> list[Path]:
    return list((root / HIDDEN / "work").iterdir())


def test_where_nothing_was_published_nothing_is_swept_or_made(tmp_path: Path) -> None:
    assert sweep(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_running_servers_work_is_not_swept(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    one = staged(publisher, "digits", 1)

    with publisher.receive(10) as incoming:
        incoming.write(b"half")

        assert sweep(tmp_path) == 0
        assert incoming.finish().path.read_bytes() == b"half"
    assert publisher.publish(one) == tmp_path / "digits" / "1"
    publisher.close()


def test_a_killed_servers_work_is_swept(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        publisher = Publisher(tmp_path)
        staged(publisher, "digits", 1)
        publisher.receive(10).write(b"half")
        os.kill(os.getpid(), 9)
    assert os.waitpid(child, 0)[1] == 9
    assert hidden(tmp_path)
    neighbour = Workplace(tmp_path)

    assert sweep(tmp_path) == 1

    assert hidden(tmp_path) == {}
    assert len(work(tmp_path)) == 1
    neighbour.close()
    assert work(tmp_path) == []


def test_a_folder_of_work_that_was_never_locked_is_swept(tmp_path: Path) -> None:
    Workplace(tmp_path).close()
    (tmp_path / HIDDEN / "work" / "torn").mkdir()
    (tmp_path / HIDDEN / "work" / "file").touch()

    assert sweep(tmp_path) == 1
    assert [path.name for path in work(tmp_path)] == ["file"]


@pytest.mark.parametrize("name", [HIDDEN, f"{HIDDEN}/work", f"{HIDDEN}/quarantine"])
@pytest.mark.parametrize("kind", ["link", "broken_link", "file"])
def test_nothing_is_swept_or_made_through_a_link(tmp_path: Path, name: str, kind: str) -> None:
    root, outside = tmp_path / "models", tmp_path / "outside"
    root.mkdir()
    (outside / "work" / "precious").mkdir(parents=True)
    (root / name).parent.mkdir(exist_ok=True)
    if kind == "file":
        (root / name).touch()
    else:
        (root / name).symlink_to(outside if kind == "link" else tmp_path / "none")

    for attempt in (Workplace, sweep, Publisher):
        with pytest.raises(SettingsError, match="is not a folder of its own"):
            attempt(root)

    assert (outside / "work" / "precious").is_dir()
    assert not (tmp_path / "none").exists()
