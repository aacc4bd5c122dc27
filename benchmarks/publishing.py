"""Publishes versions to a running server, takes them back, and tells who may have answered when."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 120.0

AFTERMATH_S = 0.25
"""For so long after the reply, the old version is drained and closed."""

_GATE = re.compile(r"refused at the gate '(\w+)'")


@dataclass(frozen=True)
class Event:
    """One order to the server, and how it ended.

    Attributes:
        what: `publish`, `rollback` or `taken back`.
        kind: of the version that was published; empty for others.
        begin_s: when it was given, on the monotonic clock.
        end_s: when its reply was there.
        version: what answers from then on; None where nothing changed.
        published: the version that was sent; None for others.
        refused: the gate that refused it, or the status where no gate is named; empty if none did.
        said: what the server said where it refused.
    """

    what: str
    kind: str
    begin_s: float
    end_s: float
    version: int | None
    published: int | None = None
    refused: str = ""
    said: str = ""

    @property
    def took_s(self) -> float:
        """Seconds from order to reply."""
        return self.end_s - self.begin_s


class Repository:
    """The model repository of a running server, as one who may write to it sees it."""

    def __init__(self, port: int, model: str) -> None:
        self._port = port
        self._path = f"/v2/repository/models/{model}"

    def publish(self, version: int, kind: str, file_name: str, data: bytes) -> Event:
        """Send one version, and wait for what becomes of it."""
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Pelton-Digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "X-Pelton-File": file_name,
        }
        begin_s = time.monotonic()
        status, reply = self._ask("POST", f"/versions?version={version}", data, headers)
        end_s = time.monotonic()
        if status == http.client.OK:
            return Event("publish", kind, begin_s, end_s, int(reply["version"]), version)
        said = str(reply.get("error", ""))
        gate = _GATE.search(said)
        refused = gate[1] if gate else str(status)
        return Event("publish", kind, begin_s, end_s, None, version, refused, said)

    def rollback(self) -> Event:
        """Have the version before answer again.

        Raises:
            RuntimeError: the server did not do it.
        """
        begin_s = time.monotonic()
        status, reply = self._ask("POST", "/rollback")
        end_s = time.monotonic()
        if status != http.client.OK:
            raise RuntimeError(f"rollback: {status} {reply}")
        return Event("rollback", "", begin_s, end_s, int(reply["version"]))

    def versions(self) -> list[dict[str, Any]]:
        """Return what the server knows of each version.

        Raises:
            RuntimeError: it did not tell.
        """
        status, reply = self._ask("GET", "/versions")
        if status != http.client.OK:
            raise RuntimeError(f"versions: {status} {reply}")
        rows: list[dict[str, Any]] = reply if isinstance(reply, list) else reply["versions"]
        return rows

    def active(self) -> int:
        """Return the version that answers now."""
        (found,) = [int(row["version"]) for row in self.versions() if row["active"]]
        return found

    def wait_until_one_is_left(self, patience_s: float) -> None:
        """Return once no version is on probation or kept to go back to.

        Raises:
            RuntimeError: the time is over.
        """
        deadline_s = time.monotonic() + patience_s
        while any(row["kept"] or row["on_probation"] for row in self.versions()):
            if time.monotonic() > deadline_s:
                raise RuntimeError("old versions are still kept")
            time.sleep(0.1)

    def wait_until_answers(self, version: int, patience_s: float) -> None:
        """Return once a version answers.

        Raises:
            RuntimeError: the time is over.
        """
        deadline_s = time.monotonic() + patience_s
        while self.active() != version:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"version {version} does not answer")
            time.sleep(0.02)

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request(method, self._path + path, body, headers or {})
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        return reply.status, json.loads(text) if text else {}


@dataclass(frozen=True)
class Timeline:
    """Which version may have answered when.

    A change takes effect at some moment between order and reply; until the one, and from the other
    on, there is no doubt.

    Attributes:
        first: the version that answered in the beginning.
        events: what was ordered, one after the other.
    """

    first: int
    events: Sequence[Event]

    def allowed(self, due_s: float, answered_s: float) -> set[int]:
        """Return the versions that may have answered a request.

        Args:
            due_s: before it was sent, on the monotonic clock.
            answered_s: when its answer was there.
        """
        version, under_way = self.first, set()
        for event in self.events:
            if event.version is None:
                continue
            if event.end_s < due_s:
                version = event.version
            elif event.begin_s <= answered_s:
                under_way.add(event.version)
        return {version} | under_way

    def under_way(self, due_s: float) -> bool:
        """Tell whether a change was being made at a moment, or an old version was being closed."""
        return any(event.begin_s <= due_s <= event.end_s + AFTERMATH_S for event in self.events)
