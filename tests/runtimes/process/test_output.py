"""What a worker prints is in the log, line by line, under the request's id, and bounded."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator

import pytest

from pelton.errors import Unavailable
from pelton.runtimes.process import output as output_module
from pelton.runtimes.process.output import LINES_PER_S, MAX_LINE, Output
from pelton.testing.fakes import FakeClock
from runtimes.process.asking import ask


class Printed:
    """A pipe whose other end is logged."""

    def __init__(self) -> None:
        reading, self.fd = os.pipe()
        self.clock = FakeClock()
        self.output = Output(reading, "talker", self.clock)

    def say(self, text: str | bytes, log_ids: tuple[str, ...] = ()) -> None:
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())
        self.output.pump(log_ids)


@pytest.fixture
def printed(caplog) -> Iterator[Printed]:
    caplog.set_level(logging.INFO, "pelton.worker")
    printed = Printed()
    yield printed
    os.close(printed.fd)


def test_each_line_is_a_record_with_the_requests_id(printed, caplog) -> None:
    printed.say("one\ntwo\n", ("id-7", "id-8"))
    printed.say("three\n")
    assert caplog.messages == [
        "model talker (request id-7, id-8): one",
        "model talker (request id-7, id-8): two",
        "model talker: three",
    ]
    printed.output.close()


def test_a_line_may_come_in_pieces_and_without_an_end(printed, caplog) -> None:
    printed.say("zw\u00f6l".encode()[:3])
    printed.say("zw\u00f6lf\nrest".encode()[3:])
    assert caplog.messages == ["model talker: zw\u00f6lf"]
    printed.output.close()
    assert caplog.messages[1:] == ["model talker: rest"]


def test_a_long_line_is_cut(printed, caplog) -> None:
    for _ in range(5):
        printed.say("x" * MAX_LINE)
    printed.say("\nshort\n")
    assert caplog.messages == [f"model talker: {'x' * MAX_LINE} ...", "model talker: short"]
    printed.output.close()


def test_bytes_that_are_no_text_are_shown_all_the_same(printed, caplog) -> None:
    printed.say(b"\xff\xfe\n")
    assert caplog.messages == ["model talker: \ufffd\ufffd"]
    printed.output.close()


def test_more_lines_than_a_second_may_have_are_counted(printed, caplog) -> None:
    for _ in range(3):
        printed.say("line\n" * LINES_PER_S)
    assert len(caplog.messages) == LINES_PER_S
    printed.clock.advance(1)
    printed.say("next\n")
    assert caplog.messages[LINES_PER_S:] == [
        f"model talker: {2 * LINES_PER_S} more lines of output were dropped",
        "model talker: next",
    ]
    printed.output.close()


def test_the_last_words_are_logged_at_the_end(printed, caplog) -> None:
    os.write(printed.fd, b"last\nwords")
    printed.output.close()
    assert caplog.messages == ["model talker: last", "model talker: words"]


def test_one_that_never_stops_printing_does_not_hold_up_the_end(printed, monkeypatch) -> None:
    reads = []

    def read(fd: int, size: int) -> bytes:
        reads.append(size)
        return b"again\n" * 1000

    monkeypatch.setattr(output_module.os, "read", read)
    printed.output.close()
    assert len(reads) == output_module.LAST_READS


async def test_all_that_a_worker_writes_is_logged_under_its_requests_id(start, caplog) -> None:
    caplog.set_level(logging.INFO)
    instance = start(
        """
        import logging
        print("loading")
        def model_inference(obs):
            print("printed")
            print("without an end", end="")
            print("", file=sys.stderr)
            os.write(1, b"native 1\\n")
            os.write(2, b"native 2\\n")
            logging.getLogger("own").warning("logged")
        """
    )
    for name in ("id-1", "id-2"):
        await ask(instance, (name,))
    told = [text for text in caplog.messages if text.startswith("model tiny")]
    assert told[0] == "model tiny: loading"
    for name in ("id-1", "id-2"):
        own = {text for text in told if f"(request {name})" in text}
        said = ("printed", "native 1", "native 2", "WARNING own: logged")
        assert own >= {f"model tiny (request {name}): {text}" for text in said}
        assert any("without an end" in text for text in own)


async def test_the_last_words_of_a_crash_are_logged_under_its_requests_id(start, caplog) -> None:
    caplog.set_level(logging.INFO)
    instance = start(
        "import ctypes\ndef model_inference(obs):\n    print('now')\n    ctypes.string_at(0)\n"
    )
    with pytest.raises(Unavailable):
        await ask(instance, ("id-9",))
    told = "\n".join(text for text in caplog.messages if "(request id-9)" in text)
    assert "Fatal Python error: Segmentation fault" in told
    assert "model.py" in told


async def test_a_flood_of_output_is_bounded_and_the_request_answered(start, caplog) -> None:
    caplog.set_level(logging.INFO)
    instance = start(
        "def model_inference(obs):\n    os.write(1, b'flood\\n' * 10_000)\n    return 'done'\n"
    )
    answers = [(await asyncio.wait_for(ask(instance), 60))["output"] for _ in range(20)]
    assert answers == ["done"] * 20
    flood = [text for text in caplog.messages if text.endswith(": flood")]
    assert LINES_PER_S <= len(flood) < 20_000
