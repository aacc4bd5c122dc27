"""A real browser for tests: headless Chromium, driven over its DevTools pipe.

The protocol is JSON with a NUL after each message, on the file descriptors 3 and 4 of the browser
(https://chromedevtools.github.io/devtools-protocol/). A test file takes the fixture by importing it
from here: `start_chromium()` starts a browser with a profile of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")

LIMIT_S = 60.0
"""A browser that takes longer for all that is asked of it is ended, and the test fails."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # whoever runs the tests may be root, for whom it will not start otherwise
    "--disable-gpu",
    "--ignore-certificate-errors",  # of servers with a certificate of their own making
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)

# Puts the pipes on the descriptors that the browser wants, and becomes the browser.
_LAUNCH = (
    "import fcntl, os, sys\n"
    # Above both at first, since one of them may be where the other belongs.
    "ends = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]\n"
    "os.dup2(ends[0], 3)\n"
    "os.dup2(ends[1], 4)\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)


class Chromium:
    """One browser; its pages share cookies with each other and with no other browser."""

    def __init__(self, profile: Path, hosts: str = "") -> None:
        """Start it.

        Args:
            profile: an empty folder.
            hosts: what names stand for, such as `MAP evil.example 127.0.0.1`.
        """
        assert PROGRAM is not None
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        command = [PROGRAM, *FLAGS, f"--user-data-dir={profile}"]
        command += [f"--host-resolver-rules={hosts}"] if hosts else []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._limit = threading.Timer(LIMIT_S, self._process.kill)
        self._limit.daemon = True
        self._limit.start()
        os.close(theirs_in)
        os.close(theirs_out)
        self._out = os.fdopen(ours_out, "wb", buffering=0)
        self._in = os.fdopen(ours_in, "rb")
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []

    def open(self, url: str) -> Page:
        """Open a page in a tab of its own, and return once it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        page.call("Page.enable")
        page.go(url)
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        while (said := self._read()).get("id") != number:
            self._events.append(said)
        assert "error" not in said, (method, said["error"])
        result: dict[str, Any] = said["result"]
        return result

    def wait_for(self, event: str, session: str) -> dict[str, Any]:
        """Return the first such event that nobody has waited for yet."""
        while True:
            for place, said in enumerate(self._events):
                if (said.get("method"), said.get("sessionId")) == (event, session):
                    return self._events.pop(place)
            self._events.append(self._read())

    def forget(self) -> None:
        """Forget the events so far."""
        self._events.clear()

    def close(self) -> None:
        """End it."""
        self._limit.cancel()
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._in.close()

    def _read(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        said: dict[str, Any] = json.loads(message)
        return said


class Page:
    """A tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol for this page."""
        return self._browser.call(method, self._session, **parameters)

    def go(self, url: str) -> None:
        """Go to an address, and return once it is loaded."""
        self._browser.forget()
        told = self.call("Page.navigate", url=url)
        assert "errorText" not in told, (url, told)
        self._browser.wait_for("Page.loadEventFired", self._session)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of an async function in the page, and return what it returns.

        Args:
            script: JavaScript; the arguments are there as `given`.
            arguments: plain values.
        """
        body = f"(async (given) => {{ {script} }})({json.dumps(list(arguments))})"
        told = self.call("Runtime.evaluate", expression=body, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")


@pytest.fixture
def start_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Chromium]]:
    """Start browsers, `start_chromium(hosts="MAP ...")`; all are ended with the test."""
    if PROGRAM is None:
        pytest.skip("Chromium is not installed")
    with contextlib.ExitStack() as endings:

        def start(hosts: str = "") -> Chromium:
            browser = Chromium(tmp_path_factory.mktemp("profile"), hosts)
            endings.callback(browser.close)
            return browser

        yield start
