"""One function for a robot's control loop: send what was observed, get the action."""

from __future__ import annotations

import atexit
import functools
import re
import threading
import time

from pelton.client.api_key import key_of_environment, with_key
from pelton.client.blocking import Transport
from pelton.client.calls import Calls
from pelton.client.failure import Again, NoReply
from pelton.client.opening import peer_of
from pelton.client.options import DEFAULT_TIMEOUTS, MAX_CONNECTIONS, MAX_REPLY_BYTES
from pelton.client.retrying import as_error
from pelton.errors import ConnectionFailed, PeltonError, SettingsError, Unavailable
from pelton.messages import Value

_QUERY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*")

_lock = threading.Lock()
_servers: dict[tuple[str, str], tuple[Calls, Transport]] = {}


def send_inference_request(
    data_dict: dict[str, Value],
    url: str,
    timeout: float = 10,
    max_retries: int = 3,
    retry_delay: float = 1.0,
    api_key: str | None = None,
) -> Value:
    """Send one observation to a policy server and return its action.

    The connection is kept for the next call, and arrays are not copied on their way. Any number
    of threads may call this at once. `Client.predict` does the same with typed errors.

    Args:
        data_dict: what the policy takes, such as `{"instruction": str, "state": float32 [6],
            "image": uint8 [480, 640, 3]}`.
        url: the server, with or without `/infer` at its end; `?model=NAME` after that chooses
            the model where the server has several.
        timeout: seconds for each try.
        max_retries: further tries after a first one that did not reach the server, lost the
            connection, or was told to come back later.
        retry_delay: seconds between tries, or longer where the server asks for it.
        api_key: a key of the server; None for the one in the environment variable
            `PELTON_API_KEY`, if there is any.

    Returns:
        The value of `output` in the server's answer; arrays are read-only.

    Raises:
        RuntimeError: the server refused, time ran out while it was working, or every try failed;
            the message says which.
    """
    try:
        base, query = _split(url)
        calls, transport = _server(base, api_key or key_of_environment())
        call = calls.predict(data_dict, None, query)
        tries = max_retries + 1
        while True:
            tries -= 1
            try:
                return call.read(transport.perform(call.request, time.monotonic() + timeout))
            except (NoReply, Unavailable) as failure:
                if not tries or not _may_come_back(failure):
                    raise as_error(failure) from failure.__cause__
                asked_s = failure.retry_after_s if isinstance(failure, Unavailable) else None
            time.sleep(max(retry_delay, asked_s or 0.0))
    except PeltonError as error:
        raise RuntimeError(error.message) from error


@functools.lru_cache(maxsize=64)
def _split(url: str) -> tuple[str, str]:
    """Cut an endpoint into the server's base URL and the query."""
    base, _, query = url.partition("?")
    if _QUERY.fullmatch(query) is None:
        raise SettingsError(f"{query!r:.80} holds characters that no query may hold")
    return base.rstrip("/").removesuffix("/infer"), query


def _server(base: str, api_key: str) -> tuple[Calls, Transport]:
    """Return the connections to a server; the same ones for every call with the same key."""
    known = _servers.get((base, api_key))
    if known is not None:
        return known
    with _lock:
        if (base, api_key) not in _servers:
            peer = peer_of(base, None, DEFAULT_TIMEOUTS.connect_s)
            _servers[base, api_key] = (
                Calls(peer.address, with_key(None, api_key), MAX_REPLY_BYTES),
                Transport(
                    peer,
                    idle_s=DEFAULT_TIMEOUTS.idle_s,
                    max_connections=MAX_CONNECTIONS,
                    max_reply_bytes=MAX_REPLY_BYTES,
                ),
            )
        return _servers[base, api_key]


@atexit.register
def _close() -> None:
    """Close what is kept for a next call that will not come."""
    for _, transport in _servers.values():
        transport.close()


def _may_come_back(failure: NoReply | Unavailable) -> bool:
    """Say whether another try is worth it: no connection, a lost one, or "not now".

    Not where the time ran out while the server was working: it may still be.
    """
    if isinstance(failure, Unavailable):
        return True
    lost = isinstance(failure.error, ConnectionFailed)
    return failure.again is Again.SAFE or (failure.again is Again.IF_IDEMPOTENT and lost)
