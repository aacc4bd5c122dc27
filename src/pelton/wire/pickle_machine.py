"""What a pickle is read with: a place in the bytes, a stack, a memo and the lent buffers.

The stack is kept as CPython keeps it: MARK puts the current list of items aside and starts a new
one, so no opcode can reach below the mark. What the opcodes do is in `pickle_actions.py`.
"""

from __future__ import annotations

import struct

from pelton.wire.pickle_opcodes import Op
from pelton.wire.pickle_records import refusal

MIN_PROTOCOL = 2
MAX_PROTOCOL = 5

_MAX_NAME_BYTES = 256
"""Longest line of GLOBAL; the longest allowed name has 35 characters."""

U64 = struct.Struct("<Q")


class Machine:
    """The state of reading one pickle.

    Attributes:
        body: the whole pickle, read-only bytes.
        pos: where the next opcode or argument begins.
        limit: end of the current frame, or of the body outside frames.
        protocol: 2 to 5, as the first two bytes say.
        stack: the items above the last open MARK.
        outer: the items below each open MARK, outermost first.
        memo: what has been memoised, by index.
        buffer_count: how many out-of-band buffers there are.
        lent: how many of them have been used.
        max_marks: how many MARKs may be open at once.
        new_numpy: whether a name of `numpy._core` was seen.
    """

    __slots__ = (
        "_in_frame",
        "body",
        "buffer_count",
        "lent",
        "limit",
        "max_marks",
        "memo",
        "new_numpy",
        "outer",
        "pos",
        "protocol",
        "stack",
    )

    def __init__(self, stream: memoryview, buffer_count: int, max_marks: int) -> None:
        """Check the first two bytes and stand behind them.

        Args:
            stream: the pickle, read-only bytes.
            buffer_count: how many out-of-band buffers the pickle must take.
            max_marks: how many MARKs may be open at once.

        Raises:
            InvalidRequest: the stream does not begin as a pickle of protocol 2 to 5 does.
        """
        if len(stream) < 2 or stream[0] != Op.PROTO:
            raise refusal("the body does not begin as a pickle of protocol 2 to 5 does")
        self.protocol = stream[1]
        if not MIN_PROTOCOL <= self.protocol <= MAX_PROTOCOL:
            raise refusal(f"protocol {self.protocol} is not taken; write protocol 2 to 5")
        self.body = stream
        self.pos = 2
        self.stack: list[object] = []
        self.outer: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.buffer_count = buffer_count
        self.lent = 0
        self.max_marks = max_marks
        self.new_numpy = False
        self.limit = len(stream)
        self._in_frame = False

    def take(self, length: int) -> memoryview:
        """Return the next `length` bytes, uncopied, and step over them.

        Raises:
            InvalidRequest: the frame or the body ends before.
        """
        start = self.pos
        stop = start + length
        if stop > self.limit:
            left = max(self.limit - start, 0)
            raise refusal(f"{length} bytes are announced where {left} are left")
        self.pos = stop
        return self.body[start:stop]

    def number(self, form: struct.Struct) -> int:
        """Return the next integer of a fixed form and step over it.

        Raises:
            struct.error: the body ends before.
        """
        number: int = form.unpack_from(self.body, self.pos)[0]
        self.pos += form.size
        return number

    def text(self, length: int) -> str:
        """Return the next `length` bytes as text and step over them.

        Raises:
            InvalidRequest: they are not UTF-8, or the frame or the body ends before.
        """
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError:
            raise refusal("text is not UTF-8") from None

    def line(self) -> str:
        """Return the text up to the next newline and step over both.

        Raises:
            InvalidRequest: it is not UTF-8, or no newline comes soon.
        """
        ahead = bytes(self.body[self.pos : self.pos + _MAX_NAME_BYTES])
        length = ahead.find(b"\n")
        if length < 0:
            raise refusal("opcode GLOBAL without a name")
        text = self.text(length)
        self.pos += 1
        return text

    def pop_to_mark(self) -> list[object]:
        """Return the items above the last MARK and go back to those below it.

        Raises:
            IndexError: no MARK is open.
        """
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def enter_frame(self) -> None:
        """Begin a frame: no opcode may reach over its end.

        Raises:
            InvalidRequest: the frame lies in another one, or is longer than the body.
        """
        length = self.number(U64)
        left = len(self.body) - self.pos
        if self._in_frame:
            raise refusal("a frame within a frame")
        if length > left:
            raise refusal(f"a frame of {length} bytes where {left} are left")
        self.limit = self.pos + length
        self._in_frame = True

    def leave_frame(self) -> None:
        """Go on behind the end of a frame.

        Raises:
            InvalidRequest: the last opcode did not end where the frame does, or the body is over.
        """
        if self.pos > self.limit:
            raise refusal("an opcode reaches over the end of its frame")
        if self.pos >= len(self.body):
            raise refusal("the body ends before opcode STOP")
        self.limit = len(self.body)
        self._in_frame = False

    def finish(self) -> object:
        """Return the one record that is left after STOP.

        Raises:
            InvalidRequest: bytes, items or buffers are left over.
        """
        if self.pos != len(self.body):
            raise refusal(f"{len(self.body) - self.pos} bytes follow opcode STOP")
        if self.outer or len(self.stack) != 1:
            raise refusal("opcode STOP where there is not exactly one value")
        if self.lent != self.buffer_count:
            raise refusal(f"{self.buffer_count - self.lent} out-of-band buffers are not used")
        return self.stack[0]
