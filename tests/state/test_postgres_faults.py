"""A PostgreSQL that is restarted, away, or loses a connection at the worst moment."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import psycopg
import pytest

import pelton.state.postgres
from pelton.errors import Code, Unavailable
from pelton.records import Key
from pelton.state.state import State
from services.databases import change, tell
from services.postgres import Postgres

WRITERS = 4


@pytest.fixture
def shared(postgres: Postgres) -> Iterator[State]:
    state = State.open(postgres.new_database(), wait_s=30)
    yield state
    state.close()


class Writers:
    """Threads that write one key after the other, and what became of each."""

    def __init__(self, state: State) -> None:
        self.returned: list[str] = []
        self._state = state
        self._enough = threading.Event()
        self._progress = threading.Condition()
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        """Wait until so many more writes have returned."""
        with self._progress:
            goal = len(self.returned) + more
            assert self._progress.wait_for(lambda: len(self.returned) >= goal, timeout=30)

    def stop(self) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        number = 0
        while not self._enough.is_set():
            number += 1
            name = f"{writer}.{number}"
            digest = name.encode().ljust(32)
            self._state.keys.add(Key(name, digest, "", frozenset(), 1.0), change(subject=name))
            with self._progress:
                self.returned.append(name)
                self._progress.notify_all()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_writes_go_on_through_restarts_and_each_is_there_once(
    postgres: Postgres, shared: State, mode: str
) -> None:
    writers = Writers(shared)
    for _ in range(3):
        writers.wait_for(more=20)
        postgres.stop(mode)
        postgres.start()
    writers.wait_for(more=20)
    writers.stop()
    audited = Counter(row.change.subject for row in shared.audit.list(limit=100_000))
    assert Counter(writers.returned) == audited
    assert sorted(key.id for key in shared.keys.list()) == sorted(audited)


def test_a_server_that_is_away_is_unavailable_and_comes_back(postgres: Postgres) -> None:
    state = State.open(postgres.new_database(), wait_s=0.05)
    state.audit.append(change())
    postgres.stop()
    try:
        with pytest.raises(Unavailable, match="went away; see whether the change was made") as away:
            state.audit.append(change())
        with pytest.raises(Unavailable, match="does not answer; try again later"):
            state.audit.append(change())  # this one found no connection to lose
        with pytest.raises(Unavailable, match="does not answer; try again later"):
            state.audit.list()
        assert not state.writable()
    finally:
        postgres.start()
    assert (away.value.code, away.value.retry_after_s) == (Code.UNAVAILABLE, 1.0)
    assert str(postgres.folder) not in away.value.message
    state.audit.append(change())
    assert state.writable()
    assert len(state.audit.list()) == 2
    state.close()


def test_a_server_that_is_frozen_is_given_up_and_comes_back(
    postgres: Postgres, monkeypatch
) -> None:
    """Its kernel goes on taking what is sent, so nothing breaks by itself."""
    monkeypatch.setattr(pelton.state.postgres, "_SILENT_S", 0.1)
    state = State.open(postgres.new_database(), wait_s=0.05)
    state.audit.append(change())
    postgres.freeze()
    try:
        with pytest.raises(Unavailable, match="went away; see whether the change was made"):
            state.audit.append(change(action="in doubt"))
        with pytest.raises(Unavailable, match="does not answer; try again later"):
            state.audit.list()
        assert not state.writable()
    finally:
        postgres.thaw()
    state.audit.append(change(action="after"))
    assert state.writable()
    # What had been sent when it froze may have been done or not; it is never done twice.
    actions = [row.change.action for row in state.audit.list()][::-1]
    assert [each for each in actions if each != "in doubt"] == ["test", "after"]
    assert actions.count("in doubt") <= 1
    state.close()


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_that_is_lost_while_committing_makes_the_change_once(
    shared: State, monkeypatch, committed: bool
) -> None:
    commit = psycopg.Connection.commit
    losses = []

    def lose(connection: psycopg.Connection) -> None:
        if losses:
            return commit(connection)
        if committed:
            commit(connection)
        losses.append(connection)
        connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(psycopg.Connection, "commit", lose)
    first = shared.routes.set("r", {"to": 1}, None, tell())
    assert len(losses) == 1
    assert shared.routes.all() == {"r": first}
    assert [row.change for row in shared.audit.list()] == [change()]
    assert shared.routes.generation() == 1


def test_a_lock_that_another_server_holds_for_too_long_is_unavailable(postgres: Postgres) -> None:
    url = postgres.new_database()
    state = State.open(url, wait_s=0.05)
    state.routes.set("r", {}, None, tell())
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM generations FOR UPDATE")
        with pytest.raises(Unavailable, match="busy; try again later"):
            state.routes.set("s", {}, None, tell())
    state.routes.set("s", {}, None, tell())
    assert sorted(state.routes.all()) == ["r", "s"]
    state.close()


def test_a_database_that_takes_no_changes_is_unavailable(postgres: Postgres) -> None:
    url = postgres.new_database()
    State.open(url).close()
    name = url.split("/")[3].split("?")[0]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    state = State.open(url)
    with pytest.raises(Unavailable, match="takes no changes at the moment"):
        state.audit.append(change())
    assert not state.writable()
    assert state.audit.list() == []
    state.close()
