"""The state in a PostgreSQL database that several servers share."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event

from pelton.errors import SettingsError

_LEAST_CONNECT_TIMEOUT_S = 2
"""What libpq makes of anything shorter."""

_STATEMENT_TIMEOUT_S = 60
"""No statement of ours takes longer; one that does is stuck."""

_SILENT_S = 5.0
"""Beyond the wait for locks: after that, a server that says nothing counts as away."""


def open_server(url: URL, wait_s: float) -> Engine:
    """Make an engine; nothing is asked of the server yet.

    Args:
        url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters as query.
        wait_s: how long to wait for a connection, and for locks of other servers, seconds.

    Raises:
        SettingsError: the driver is not installed.
    """
    try:
        import psycopg  # noqa: F401 - SQLAlchemy imports it by name; only here it can be missed

        from pelton.state.postgres_connection import BoundedConnection
    except ImportError as error:
        raise SettingsError(
            "a database URL for PostgreSQL needs psycopg; "
            "install it: pip install 'pelton[postgres]'"
        ) from error

    class Connection(BoundedConnection):
        patience_s = wait_s + _SILENT_S

    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
        return Connection.connect(*arguments, **parameters)

    defaults = _connection_defaults(wait_s).items()
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={name: value for name, value in defaults if name not in url.query},
        pool_timeout=wait_s,
        hide_parameters=True,
    )
    event.listen(engine, "do_connect", connect)
    return engine


def _connection_defaults(wait_s: float) -> dict[str, Any]:
    """Return libpq's parameters by which no wait is long, also for a server that vanished."""
    stuck_ms = _STATEMENT_TIMEOUT_S * 1000
    timeouts_ms = {
        "lock_timeout": math.ceil(wait_s * 1000),
        "statement_timeout": stuck_ms,
        "idle_in_transaction_session_timeout": stuck_ms,
    }
    return {
        "application_name": "pelton",
        "connect_timeout": max(_LEAST_CONNECT_TIMEOUT_S, math.ceil(wait_s)),
        "keepalives_idle": 10,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "options": " ".join(f"-c {name}={value}" for name, value in timeouts_ms.items()),
    }
