"""The state of a running server: opened by its settings, followed, and closed in the right order.

A change is written to the database, whoever makes it, and every server reads it from there:

    this server, another one, the command line ---> database ---> one thread ---> event loop

The thread looks once a second, and at once when this server has changed something. Since it alone
reads, and hands over in the order in which it has read, nobody is ever given something older than
before. What only a setting asks for is imported only then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pelton.errors import PeltonError, Unavailable
from pelton.settings import Settings

if TYPE_CHECKING:
    from pelton.state.state import State

T = TypeVar("T")

logger = logging.getLogger("pelton.state")

LOOK_S = 1.0
"""Between two looks at what others have changed."""

PROBE_S = 10.0
"""Between two tries whether a change would be kept; each writes to the disk."""

SILENT_S = 3.0
"""Beyond the pause between two looks: a database that takes longer to answer is not well."""

SWEEP_S = 3600.0
"""Between two deletions of exposures that are old."""

CLOSING_S = 5.0
"""For the thread to end, which may be waiting for the database."""

NOT_YET = (
    "The change is kept, but this server's database went away before it was read again; it will "
    "be in force here as soon as the database answers"
)


@dataclass(slots=True)
class _Followed:
    """Something that is handed over again after each change of it.

    Attributes:
        subjects: the changes of which count.
        hand_over: reads it, and returns what gives it to whoever wants it.
        seen: the numbers of the changes that it holds at the least.
    """

    subjects: tuple[str, ...]
    hand_over: Callable[[], Callable[[], None]]
    seen: tuple[int, ...] = ()


class Keeping:
    """The open state, the thread that follows it, and the one that writes exposures.

    Attributes:
        state: the stores; they block, so they are called in threads.
        exposures: takes exposures on the request's way.
    """

    def __init__(self, state: State, exposures_keep_s: float, look_s: float = LOOK_S) -> None:
        """Take over an open state.

        Args:
            state: the stores.
            exposures_keep_s: how long exposures are kept, seconds.
            look_s: how long to wait between two looks at what others have changed, seconds.
        """
        from pelton.state.exposure_writer import ExposureWriter

        self.state = state
        self.exposures = ExposureWriter(state.exposures.add)
        self._writable = True
        self._heard_s = math.inf  # when the thread last had its answers; from its start on
        self._exposures_keep_s = exposures_keep_s
        self._look_s = look_s
        self._followed: list[_Followed] = []
        self._asked: deque[asyncio.Future[None]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._away = False
        self._probe_s = self._sweep_s = 0.0
        self._thread: threading.Thread | None = None

    @property
    def writable(self) -> bool:
        """Whether a change would be kept, as it was found out a few seconds ago."""
        heard = time.monotonic() - self._heard_s < self._look_s + SILENT_S
        return self._writable and heard and not self.state.refusing

    def follow(
        self, subjects: tuple[str, ...], read: Callable[[], T], take: Callable[[T], None]
    ) -> None:
        """Hand something over now, and again after each change of it; to be called before `start`.

        Args:
            subjects: whose changes count, such as `routes`, as `State.generations` names them.
            read: reads it from the state; called in a thread.
            take: is given it, now at once and later on the event loop; must not raise.

        Raises:
            Unavailable: the database is busy or away.
        """

        def hand_over() -> Callable[[], None]:
            value = read()
            return lambda: take(value)

        followed = _Followed(subjects, hand_over)
        self._read(followed, self.state.generations())()
        self._followed.append(followed)

    def start(self) -> None:
        """Begin to look; to be called on the event loop, once it serves."""
        loop = asyncio.get_running_loop()
        run = threading.Thread(target=self._run, args=(loop,), name="pelton-state", daemon=True)
        self._thread = run
        run.start()

    async def refresh(self) -> None:
        """Return when everything that is kept by now is in force here.

        Raises:
            Unavailable: the database went away meanwhile.
        """
        if self._thread is None or not self._thread.is_alive():
            raise Unavailable(NOT_YET, LOOK_S)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(done)
        self._wake.set()
        await done

    def close(self) -> None:
        """End the threads and close the database; exposures that wait are written before."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSING_S)
        self.exposures.close()
        self.state.close()

    # -- the thread ------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._closing:
                self._wake.clear()
                # Who asks from here on finds the event cleared, sets it, and is heard next time.
                asked = [self._asked.popleft() for _ in range(len(self._asked))]
                well = self._look(loop)
                if asked:
                    _call(loop, _settle, asked, well)
                self._look_after(well)
                self._heard_s = time.monotonic()
                self._wake.wait(self._look_s)
        finally:
            _call(loop, _settle, list(self._asked), False)

    def _look(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Hand over what has changed; return whether everything could be read."""
        try:
            numbers = self.state.generations()
            for each in self._followed:
                if _numbers_of(each, numbers) != each.seen:
                    _call(loop, self._read(each, numbers))
        except PeltonError as error:
            if not self._away:
                logger.warning("what others change is not noticed for now: %s", error.message)
            self._away = True
            return False
        if self._away:
            logger.info("the database answers again")
        self._away = False
        return True

    def _read(self, followed: _Followed, numbers: Mapping[str, int]) -> Callable[[], None]:
        hand_over = followed.hand_over()
        followed.seen = _numbers_of(followed, numbers)
        return hand_over

    def _look_after(self, well: bool) -> None:
        """Find out whether changes are kept, and delete what is old, both now and then."""
        now_s = time.monotonic()
        if not well:
            self._writable = False
        elif not self._writable or self.state.refusing or now_s >= self._probe_s:
            self._writable = self.state.writable()
            self._probe_s = now_s + PROBE_S
        if self._writable and now_s >= self._sweep_s:
            self._sweep_s = now_s + SWEEP_S
            self._sweep()

    def _sweep(self) -> None:
        try:
            deleted = self.state.exposures.delete_older(time.time() - self._exposures_keep_s)
        except PeltonError as error:
            logger.warning("old exposures were not deleted: %s", error.message)
        else:
            if deleted:
                logger.info("%d old exposures were deleted", deleted)


def open_keeping(settings: Settings) -> Keeping | None:
    """Open the state that the settings name.

    Returns:
        It; or None where they name none, and then nothing of its libraries is imported.

    Raises:
        SettingsError: it cannot be opened; one sentence with the cure.
        Unavailable: the database is busy or does not answer, or its disk is full.
    """
    folder, url = settings["state_dir"], settings["database_url"]
    if folder is None and url is None:
        return None
    from pelton.state.sqlite import file_url
    from pelton.state.state import State

    state = State.open(url or file_url(Path(folder)), settings["database_wait_s"])
    return Keeping(state, settings["exposures_keep_s"])


def _numbers_of(followed: _Followed, numbers: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(numbers.get(subject, 0) for subject in followed.subjects)


def _settle(asked: list[asyncio.Future[None]], well: bool) -> None:
    for each in asked:
        if each.done():  # whoever asked has gone
            continue
        if well:
            each.set_result(None)
        else:
            each.set_exception(Unavailable(NOT_YET, LOOK_S))


def _call(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:  # the loop is closed: the server has ended
        return
