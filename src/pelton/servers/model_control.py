"""What the doors may ask of whoever keeps the models: which there are, and to change them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One version of one model, as the repository extension of OIP lists it.

    Attributes:
        name: the model's name.
        version: as text; empty where no version of the model could be told.
        state: `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`, as Triton names it; empty where it
            was never loaded.
        reason: why it is not ready; empty for others.
    """

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of one model, with its history.

    Attributes:
        version: positive.
        state: how far it is, in small letters, such as `ready`, `unloaded`, `failed`, `refused`.
        reason: why it failed or was refused; empty for others.
        digest: SHA-256 of its manifest, as `sha256:HEX`; empty where it was not published.
        published_s: when it was published, seconds since 1970; None where it was not.
        active: whether it answers for the model's name.
        kept: whether it is kept loaded, so that it can be brought back at once.
        on_probation: whether it is taken back by itself if it turns out worse.
        labels: by which names it is called, such as `stable`.
    """

    version: int
    state: str
    reason: str = ""
    digest: str = ""
    published_s: float | None = None
    active: bool = False
    kept: bool = False
    on_probation: bool = False
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class UploadRequest:
    """What the sender of a new version says of it, beside its bytes.

    Attributes:
        version: which version it shall become; None for the next free one.
        digest: SHA-256 of the bytes, as `sha256:HEX`; empty where it was not told.
        file_name: name of the model's file where the bytes are that file itself; empty where
            they are a tar.
        device: where it shall run, such as `cuda:0`; empty for where its `model.toml` says. A form
            may say it behind the bytes, so it is known once they have all come.
    """

    version: int | None = None
    digest: str = ""
    file_name: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A version that passed all gates, and answers now.

    Attributes:
        model: the model's name.
        version: positive.
        digest: SHA-256 of its manifest, as `sha256:HEX`.
        numbers: what was measured at the gates, as plain values.
    """

    model: str
    version: int
    digest: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


class ModelControl(Protocol):
    """Changes the models that are served, one version at a time.

    What is not allowed by the settings raises `AccessDenied` with the cure. An `actor` is the id
    of the key that asks; empty where no keys are used.
    """

    def index(self, ready_only: bool) -> list[IndexRow]:
        """List all versions of all models in the repository; of those that are ready only."""

    async def load(
        self, name: str, config: str | None, files: Mapping[str, bytes], actor: str
    ) -> None:
        """Load a model again from its folder, or one that is not loaded.

        Args:
            name: the model's name; it may have come into the repository just now.
            config: JSON of a configuration to go by instead of the model's own; None for that.
            files: files to load it from instead, by their paths within the model's folder.
            actor: who asks.

        Raises:
            NotFound: there is no such model.
            LoadFailed: it cannot be loaded; what was served before goes on.
            AccessDenied: the server does not let models be loaded by request.
        """

    async def unload(self, name: str, actor: str) -> None:
        """Let a model answer what it has begun, and take it out of memory.

        Raises:
            NotFound: there is no such model.
            AccessDenied: the server does not let models be unloaded by request.
        """

    def check_may_publish(self, name: str, version: int | None) -> None:
        """Check what can be told before the bytes have come; quick, since the loop waits.

        Raises:
            AccessDenied: the server does not let models be published.
            InvalidRequest: name or version is none.
            Conflict: the version is there already.
        """

    async def publish(
        self,
        name: str,
        upload: UploadRequest,
        chunks: AsyncIterator[bytes],
        actor: str,
        progress: Callable[[str], None],
    ) -> PublishedRow:
        """Take a new version in, prove it at every gate and have it answer.

        Args:
            name: the model's name; a new one makes a new model.
            upload: what is said of the bytes.
            chunks: the bytes, as they come; each is asked for once the one before is kept.
            actor: who asks.
            progress: is told the name of each gate as it is entered, on the loop.

        Returns:
            What answers now.

        Raises:
            AccessDenied: the server does not let models be published.
            InvalidRequest: name, version, digest or archive are not as they must be, or a gate
                refused the version: the message says which gate and why.
            Conflict: the version is there already, or another change of the model is under way.
            LoadFailed: a gate refused it: it could not be loaded.
            Unavailable: the disk is full.
        """

    async def rollback(self, name: str, actor: str) -> int:
        """Have the version that answered before answer again.

        Returns:
            That version.

        Raises:
            NotFound: there is no such model.
            Conflict: there is no version to go back to.
        """

    async def versions(self, name: str) -> list[VersionRow]:
        """List what is known of the versions of one model, in order.

        Raises:
            NotFound: there is no such model.
        """
