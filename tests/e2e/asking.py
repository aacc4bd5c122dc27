"""Somebody who asks a model all the time, and remembers each answer."""

from __future__ import annotations

import threading
from typing import Any

from e2e.scaled import who_answers
from pelton.client import Client
from pelton.client.options import Retries
from pelton.errors import PeltonError
from support_server import ServerProcess, until


class Asking:
    """Asks one model in a thread of its own, from entering to leaving.

    Attributes:
        versions: which version gave each answer, in order.
        failures: what was refused or went wrong; nothing is tried again.
    """

    def __init__(self, server: ServerProcess, model: str, **how: Any) -> None:
        self.versions: list[int] = []
        self.failures: list[PeltonError] = []
        self._server = server
        self._model = model
        self._how = how
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._enough.set()
        self._thread.join(20.0)
        assert not self._thread.is_alive()

    def until_answered_by(self, version: int) -> None:
        """Wait for an answer of this version that was asked for after now."""
        before = len(self.versions)
        until(lambda: version in self.versions[before + 1 :])

    def _ask(self) -> None:
        with Client(self._server.url, retries=Retries(attempts=1)) as client:
            while not self._enough.is_set():
                try:
                    self.versions.append(who_answers(client, self._model, **self._how))
                except PeltonError as error:
                    self.failures.append(error)
