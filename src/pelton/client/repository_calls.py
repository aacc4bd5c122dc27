"""What can be asked of a server's repository: which versions there are, and to change them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pelton.client.address import quoted
from pelton.client.calls import Call, Calls
from pelton.client.described_versions import (
    IndexEntry,
    Published,
    VersionDescription,
    index_from_json,
    version_from_json,
    versions_from_json,
)
from pelton.client.http1 import Reply
from pelton.client.pushing import Cargo, OnProgress, Push
from pelton.client.replies import read_json, read_nothing, read_value
from pelton.errors import InvalidRequest
from pelton.wire.limits import Limits

T = TypeVar("T")

_REPOSITORY = "/v2/repository"


class RepositoryCalls:
    """Writes requests about the repository of one server.

    Args:
        calls: writes what every request has in common.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def index(self, ready_only: bool) -> Call[tuple[IndexEntry, ...]]:
        """Ask for all versions of all models."""
        return self._post(
            "/index",
            {"ready": True} if ready_only else {},
            lambda reply, limits: index_from_json(read_value(reply, limits)),
            idempotent=True,
        )

    def load(self, model: str) -> Call[None]:
        """Have a model loaded, or loaded again."""
        return self._post(f"{_model(model)}/load", {}, read_nothing)

    def unload(self, model: str) -> Call[None]:
        """Have a model unloaded."""
        return self._post(f"{_model(model)}/unload", {}, read_nothing)

    def rollback(self, model: str) -> Call[int]:
        """Have the version answer that answered before."""
        return self._post(
            f"{_model(model)}/rollback",
            {},
            lambda reply, limits: version_from_json(read_json(reply, limits)),
        )

    def versions(self, model: str) -> Call[tuple[VersionDescription, ...]]:
        """Ask for the versions of one model."""
        return self._calls.call(
            "GET",
            f"{_REPOSITORY}{_model(model)}/versions",
            lambda reply, limits: versions_from_json(read_json(reply, limits)),
            idempotent=True,
        )

    def push(
        self, cargo: Cargo, model: str, version: int | None, on_progress: OnProgress | None
    ) -> Call[Published]:
        """Publish a new version.

        Raises:
            InvalidRequest: the name or the version is none.
        """
        target = f"{_REPOSITORY}{_model(model)}/versions?progress=1"
        if version is not None:
            if type(version) is not int or version < 1:
                raise InvalidRequest(f"the version must be a number from 1 on, not {version!r:.40}")
            target += f"&version={version}"
        push = Push(cargo, on_progress)
        fields = (
            ("Content-Type", "application/x-tar"),
            ("X-Pelton-Digest", cargo.digest),
            ("Content-Length", str(cargo.size_bytes)),
        )
        call = self._calls.call("POST", target, push.read, fields=fields)
        request = call.request._replace(stream=push.body, hear=push.hear)
        return call._replace(request=request, patient=True)

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        read: Callable[[Reply, Limits], T],
        idempotent: bool = False,
    ) -> Call[T]:
        written = json.dumps(body).encode()
        fields = (
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(written))),
        )
        return self._calls.call(
            "POST", _REPOSITORY + path, read, fields=fields, body=written, idempotent=idempotent
        )


def _model(model: str) -> str:
    if isinstance(model, str) and "/" in model:  # which no server takes for one piece of a path
        raise InvalidRequest(f"{model!r:.40} cannot be a model name, which holds no slash")
    return f"/models/{quoted(model, 'model name')}"
