"""Keeps keys, sessions and passwords of databases out of the log, whoever wrote the line.

No message of ours holds a key. But an exception of a library may, or a model that prints its
request, so every record is looked through before it is written.
"""

from __future__ import annotations

import logging
import re

from pelton.access.keys import ID_CHARACTERS, PREFIX
from pelton.access.sessions import COOKIE, CSRF_HEADER

_HIDDEN = "***"

_SECRETS = re.compile(
    rf"({PREFIX}[a-z0-9]{{{ID_CHARACTERS}}}_)[a-z0-9]+"  # a key, or the beginning of one
    rf"|({COOKIE}=)[\w\-]+"
    rf"|({CSRF_HEADER}\W{{1,6}})[\w\-]+"
    r"|(://[^\s/:@]*:)[^\s/@]+(?=@)"  # the password of a URL (RFC 3986, 3.2.1)
    r"|([?&]password=)[^\s&]+",
    re.IGNORECASE | re.ASCII,
)

_format_trace = logging.Formatter().formatException


def redacted(text: str) -> str:
    """Return a text with the secrets in it replaced; the ids of keys stay."""
    return _SECRETS.sub(lambda found: found[found.lastindex or 0] + _HIDDEN, text)


class RedactSecrets(logging.Filter):
    """Replaces secrets in the records of a handler: in message, arguments and traceback.

    It belongs on handlers: a filter of a logger does not see what comes from loggers below it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace, and let the record pass."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 -- an argument's own __str__ may raise anything
            # Left as it is, logging would print its arguments as they are.
            message, record.args = f"{record.msg} (with arguments that do not fit)", ()
            record.msg = message
        clean = redacted(message)
        if clean != message:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None:
            trace = _format_trace(record.exc_info)
            clean_trace = redacted(trace)
            if clean_trace != trace:
                # A formatter would write the exception anew, so its text becomes the message's.
                record.msg, record.args = f"{clean}\n{clean_trace}", ()
                record.exc_info = record.exc_text = None
        return True
