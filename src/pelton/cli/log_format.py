"""How log lines look: for people, or one JSON object each for machines.

Text from outside may sit in a message, so control characters are escaped: one record is one
line, and nobody can forge another. Keys and sessions are left out, whoever wrote the line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time

from pelton.access.redaction import RedactSecrets

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def set_up_logging(style: str, level: str) -> None:
    """Write log lines to standard error.

    Args:
        style: `text` or `json`.
        level: the least level that is written.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    handler.addFilter(RedactSecrets())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # uvicorn tells of its own start and end; ours is told better by us.
    # What it warns of, such as a broken request, any stranger could write into the log at will.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    # Of the steps by which tables are made it is told once that they were made, by us.
    logging.getLogger("alembic").setLevel(logging.WARNING)


class TextLines(logging.Formatter):
    """`12:00:00 INFO message`, a traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; a message's own line breaks are escaped."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname} {escaped(record.getMessage())}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "\n    " + _CONTROL.sub(_escape, trace).replace("\n", "\n    ")
        return line


class JsonLines(logging.Formatter):
    """`{"time": ..., "level": ..., "logger": ..., "message": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def escaped(message: str) -> str:
    """Return a message with its control characters and line breaks written out."""
    return _CONTROL.sub(_escape, message).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
