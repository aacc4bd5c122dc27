"""The state of a running server is followed: who changes what, and wherever, is noticed in order."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pelton import keeping as module
from pelton.errors import SettingsError, Unavailable
from pelton.keeping import Keeping, open_keeping
from pelton.records import Exposure
from pelton.settings import load_settings
from pelton.state.sqlite import FILE_NAME, file_url
from pelton.state.state import State
from services.databases import tell
from services.postgres import Postgres
from support_server import until

NEVER_S = 3600.0


@pytest.fixture
def keep(database_url: str) -> Iterator[Callable[..., Keeping]]:
    """Open the same database as often as a test likes, as several servers do."""
    opened: list[Keeping] = []

    def keep(look_s: float = 0.005) -> Keeping:
        opened.append(Keeping(State.open(database_url), 60.0, look_s))
        return opened[-1]

    yield keep
    for each in opened:
        each.close()


class Taken:
    """What was handed over, and by which thread."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.threads: set[int] = set()
        self._came = asyncio.Event()

    def __call__(self, value: object) -> None:
        self.values.append(value)
        self.threads.add(threading.get_ident())
        self._came.set()

    async def until(self, wanted: object) -> None:
        async with asyncio.timeout(30):
            while self.values[-1] != wanted:
                self._came.clear()
                await self._came.wait()


def names_of(keeping: Keeping) -> Callable[[], list[str]]:
    return lambda: list(keeping.state.routes.all())


async def test_what_another_server_changes_is_handed_over_on_the_event_loop(keep) -> None:
    here, there, taken = keep(), keep(), Taken()
    there.state.routes.set("a", {}, None, tell())
    here.follow(("routes",), names_of(here), taken)
    assert taken.values == [["a"]]  # at once
    here.start()
    await asyncio.to_thread(there.state.routes.set, "b", {}, None, tell())
    await taken.until(["a", "b"])
    assert taken.threads == {threading.get_ident()}


async def test_what_has_not_changed_is_not_read_again(keep) -> None:
    keeping, routes, keys = keep(), Taken(), Taken()
    keeping.follow(("routes",), names_of(keeping), routes)
    keeping.follow(("keys", "versions"), lambda: None, keys)
    keeping.start()
    for _ in range(3):
        await keeping.refresh()
    await asyncio.to_thread(keeping.state.routes.set, "a", {}, None, tell())
    for _ in range(3):
        await keeping.refresh()
    assert (routes.values, keys.values) == ([[], ["a"]], [None])


async def test_a_refresh_brings_what_was_kept_before_it(keep) -> None:
    keeping, taken = keep(look_s=NEVER_S), Taken()
    keeping.follow(("routes",), names_of(keeping), taken)
    keeping.start()
    for number in range(20):
        await asyncio.to_thread(keeping.state.routes.set, f"r{number:02}", {}, None, tell())
        await keeping.refresh()
        assert len(taken.values[-1]) == number + 1


async def test_nobody_is_given_something_older_than_before(keep) -> None:
    keeping, taken = keep(look_s=0.001), Taken()
    keeping.follow(("routes",), lambda: len(keeping.state.routes.all()), taken)
    keeping.start()

    async def change_routes(writer: int) -> None:
        for number in range(10):
            name = f"{writer}.{number}"
            await asyncio.to_thread(keeping.state.routes.set, name, {}, None, tell())
            await keeping.refresh()

    await asyncio.gather(*(change_routes(writer) for writer in range(4)))
    assert taken.values == sorted(taken.values)
    assert taken.values[-1] == 40


async def test_who_does_not_wait_for_a_refresh_harms_nobody(keep) -> None:
    keeping = keep(look_s=NEVER_S)
    keeping.start()
    impatient = asyncio.ensure_future(keeping.refresh())
    await asyncio.sleep(0)
    impatient.cancel()
    await keeping.refresh()
    assert impatient.cancelled()


async def test_a_refresh_without_a_thread_does_not_wait_for_ever(keep) -> None:
    with pytest.raises(Unavailable, match="in force here as soon as"):
        await keep().refresh()


def test_exposures_are_written_before_the_end(keep) -> None:
    keeping, other = keep(), keep()
    exposure = Exposure("r", "u", True, "1", 0.5, True, False, time.time(), salt="s")
    keeping.exposures.put(exposure)
    keeping.close()
    assert other.state.exposures.list("r") == [exposure]


async def test_old_exposures_are_deleted(keep) -> None:
    keeping = keep(look_s=NEVER_S)
    now_s = time.time()
    kept, old = (
        Exposure("r", unit, True, "1", 0.5, True, False, at_s, salt="s")
        for unit, at_s in (("young", now_s), ("old", now_s - 61.0))
    )
    keeping.state.exposures.add([kept, old])
    keeping.start()
    for _ in range(2):  # what is looked after in the first round is done before the second
        await keeping.refresh()
    assert keeping.state.exposures.list("r") == [kept]


async def test_a_database_that_goes_away_is_told_once_and_comes_back(
    postgres: Postgres, caplog
) -> None:
    caplog.set_level("INFO", "pelton.state")
    keeping = Keeping(State.open(postgres.new_database(), wait_s=0.05), 60.0, look_s=0.005)
    taken = Taken()
    keeping.follow(("routes",), names_of(keeping), taken)
    keeping.start()
    await keeping.refresh()
    await asyncio.to_thread(postgres.stop)
    try:
        for _ in range(3):
            with pytest.raises(Unavailable, match="went away before it was read again"):
                await keeping.refresh()
        assert not keeping.writable
    finally:
        await asyncio.to_thread(postgres.start)
    await asyncio.to_thread(keeping.state.routes.set, "a", {}, None, tell())
    await taken.until(["a"])
    for _ in range(2):
        await keeping.refresh()
    assert keeping.writable
    keeping.close()
    told = [record.message for record in caplog.records if "database" in record.message]
    assert len([each for each in caplog.records if "is not noticed" in each.message]) == 1
    assert "the database answers again" in told


def test_a_database_that_does_not_come_back_to_us_is_not_well(keep, monkeypatch) -> None:
    """As where its machine swaps: the thread that asks it hangs, and cannot tell anybody."""
    monkeypatch.setattr(module, "SILENT_S", 0.02)
    keeping, go_on = keep(), threading.Event()
    state = keeping.state
    slow = SimpleNamespace(
        generations=lambda: go_on.wait(30) and state.generations(),
        writable=state.writable,
        refusing=False,
        exposures=state.exposures,
        close=state.close,
    )
    monkeypatch.setattr(keeping, "state", slow)

    async def follow() -> None:
        keeping.start()
        assert keeping.writable  # nothing else is known yet
        go_on.set()
        await keeping.refresh()
        go_on.clear()
        asked = asyncio.ensure_future(keeping.refresh())
        await asyncio.to_thread(until, lambda: not keeping.writable)
        go_on.set()
        await asked
        await asyncio.to_thread(until, lambda: keeping.writable)

    asyncio.run(follow())


async def test_a_database_that_takes_no_changes_is_found_out(
    postgres: Postgres, monkeypatch
) -> None:
    monkeypatch.setattr(module, "PROBE_S", 0.0)
    url = postgres.new_database()
    keeping = Keeping(State.open(url), 60.0, look_s=NEVER_S)
    keeping.start()
    for _ in range(2):
        await keeping.refresh()
    assert keeping.writable
    name = url.split("/")[3].split("?")[0]
    await asyncio.to_thread(
        postgres.execute, f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    )
    keeping.state.database.close()  # the setting holds for new connections
    for _ in range(2):
        await keeping.refresh()
    assert not keeping.writable
    keeping.close()


async def test_a_change_that_is_refused_is_found_out_at_once(tmp_path: Path) -> None:
    keeping = Keeping(State.open(file_url(tmp_path), wait_s=0.05), 60.0, look_s=NEVER_S)
    keeping.start()
    for _ in range(2):
        await keeping.refresh()
    assert keeping.writable
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE").close()
    with pytest.raises(Unavailable, match="busy"):
        await asyncio.to_thread(keeping.state.routes.set, "a", {}, None, tell())
    assert not keeping.writable  # long before it is tried again
    other.execute("ROLLBACK").close()
    other.close()
    for _ in range(2):
        await keeping.refresh()
    assert keeping.writable
    keeping.close()


@pytest.mark.parametrize("replaced", [True, False])
async def test_a_file_that_is_taken_away_is_told_once(
    tmp_path: Path, caplog, replaced: bool
) -> None:
    keeping = Keeping(State.open(file_url(tmp_path), wait_s=0.05), 60.0, look_s=0.005)
    keeping.start()
    file, away = tmp_path / FILE_NAME, tmp_path / "away"
    file.rename(away)
    if replaced:
        shutil.copy(away, file)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await keeping.refresh()
    assert not keeping.writable
    assert file.exists() is replaced
    keeping.close()
    # The first sweep of old exposures may come across it, too.
    told = [one for one in caplog.messages if one.startswith("what others change")]
    assert len(told) == 1
    assert "was removed or replaced while the server ran" in told[0]


class TestOpening:
    def test_without_a_setting_there_is_none_and_nothing_is_imported(self) -> None:
        program = (
            "import sys\n"
            "from pelton.keeping import open_keeping\n"
            "from pelton.settings import load_settings\n"
            "import pelton.traffic, pelton.servers.traffic_routes, pelton.servers.audit_routes\n"
            "assert open_keeping(load_settings({}, {})) is None\n"
            "print(sorted({'sqlalchemy', 'alembic', 'psycopg'} & set(sys.modules)))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("[]\n", "")

    def test_a_folder_is_enough(self, tmp_path: Path) -> None:
        keeping = open_keeping(load_settings({"state_dir": str(tmp_path / "new")}, {}))
        assert keeping is not None
        assert keeping.state.writable()
        keeping.close()
        assert (tmp_path / "new" / FILE_NAME).stat().st_mode & 0o777 == 0o600

    def test_a_url_goes_before_the_folder(self, tmp_path: Path) -> None:
        url = file_url(tmp_path / "by-url")
        flags = {"state_dir": str(tmp_path / "folder"), "database_url": url}
        keeping = open_keeping(load_settings(flags, {}))
        assert keeping is not None
        keeping.close()
        assert (tmp_path / "by-url" / FILE_NAME).is_file()
        assert not (tmp_path / "folder").exists()

    def test_a_wrong_url_is_one_sentence_without_the_password(self) -> None:
        flags = {"database_url": "mysql://me:secret@host/db"}
        with pytest.raises(SettingsError, match="begins with 'mysql'") as refusal:
            open_keeping(load_settings(flags, {}))
        assert "secret" not in refusal.value.message
