"""Every kind of driver error becomes the error of ours on which a caller can act."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import exc

from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable
from pelton.state.failures import Failure, understand


def understood(error: psycopg.Error) -> Failure:
    return understand(exc.DBAPIError.instance("SELECT 1", {}, error, psycopg.Error))


@pytest.mark.parametrize(
    ("error", "kind", "code", "passing"),
    [
        (errors.DiskFull(), Unavailable, Code.DISK_FULL, False),
        (errors.DeadlockDetected(), Unavailable, Code.UNAVAILABLE, True),
        (errors.SerializationFailure(), Unavailable, Code.UNAVAILABLE, True),
        (errors.LockNotAvailable(), Unavailable, Code.UNAVAILABLE, False),
        (errors.QueryCanceled(), Unavailable, Code.UNAVAILABLE, False),
        (errors.TooManyConnections(), Unavailable, Code.UNAVAILABLE, False),
        (errors.ReadOnlySqlTransaction(), Unavailable, Code.UNAVAILABLE, False),
        (errors.AdminShutdown(), Unavailable, Code.UNAVAILABLE, True),
        (errors.CannotConnectNow(), Unavailable, Code.UNAVAILABLE, True),
        (psycopg.OperationalError("no such host"), Unavailable, Code.UNAVAILABLE, True),
        (errors.NumericValueOutOfRange(), InvalidRequest, Code.INVALID_INPUT, False),
        (errors.DataCorrupted(), PeltonError, Code.INTERNAL, False),
        (errors.UndefinedTable(), PeltonError, Code.INTERNAL, False),
        (errors.InsufficientPrivilege(), PeltonError, Code.INTERNAL, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_postgresql(error, kind: type[PeltonError], code: Code, passing: bool) -> None:
    failure = understood(error)
    assert (type(failure.error), failure.error.code, failure.passing) == (kind, code, passing)
    if isinstance(failure.error, Unavailable):
        assert failure.error.retry_after_s is not None


def test_a_pool_without_a_free_connection_is_busy() -> None:
    failure = understand(exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached"))
    assert isinstance(failure.error, Unavailable)
    assert (failure.error.retry_after_s, failure.passing) == (1.0, False)
    assert "QueuePool" not in failure.error.message
