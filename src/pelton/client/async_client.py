"""The client for `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from pelton.client.api_key import with_key
from pelton.client.calls import Call, Calls, InferOptions
from pelton.client.described import ModelDescription, ServerDescription
from pelton.client.described_versions import IndexEntry, Published, VersionDescription
from pelton.client.failure import NoReply
from pelton.client.looping import AsyncTransport
from pelton.client.opening import peer_of
from pelton.client.options import (
    DEFAULT_BOUNDS,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUTS,
    DEFAULT_URL,
    GOODBYE_S,
    Bounds,
    Retries,
    Timeouts,
)
from pelton.client.pushing import PUSH_TIMEOUT_S, OnProgress, load_cargo
from pelton.client.repository_calls import RepositoryCalls
from pelton.client.retrying import Attempts, as_error
from pelton.client.shared_calls import Asking, SharedCalls
from pelton.errors import PeltonError, Unavailable
from pelton.messages import InferResponse, Parameter, Value
from pelton.tensors import Array

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from pelton.client.signed_calls import SigningKey

T = TypeVar("T")


class AsyncClient:
    """Asks a server from `async` code; any number of tasks of one event loop may share one client.

    The same as `Client` in all else: methods, errors and repetitions. A task that is cancelled
    closes its connection, and the server drops the request.

    Example:
        >>> async with AsyncClient("http://127.0.0.1:50000") as client:  # doctest: +SKIP
        ...     response = await client.infer("digits", {"image": np.zeros((1, 8, 8), np.uint8)})
        ...     print(response.outputs["probabilities"].argmax())
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
        bounds: Bounds = DEFAULT_BOUNDS,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        shared_memory: bool = False,
        api_key: str | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            url: the server, with the path under which a proxy offers it, if any; or
                `unix:/run/pelton.sock` for one that listens on a Unix socket.
            timeouts: how long to wait.
            retries: how often to try.
            bounds: how many connections to open, and how much to take.
            headers: sent with every request, such as `Authorization`.
            tls: whom to trust for `https://`; None for the system's certificate authorities.
            shared_memory: as in `Client`.
            api_key: a key of the server, sent as `Authorization: Bearer`; None for the one in the
                environment variable `PELTON_API_KEY`, if there is any.

        Raises:
            SettingsError: one of these is wrong.
        """
        peer = peer_of(url, tls, timeouts.connect_s)
        self._timeouts = timeouts
        self._retries = retries
        self._calls = Calls(peer.address, with_key(headers, api_key), bounds.max_reply_bytes)
        self._repository = RepositoryCalls(self._calls)
        self._shared = SharedCalls(self._calls) if shared_memory else None
        self._transport = AsyncTransport(
            peer,
            idle_s=timeouts.idle_s,
            max_connections=bounds.max_connections,
            max_reply_bytes=bounds.max_reply_bytes,
        )

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        outputs: Sequence[str] = (),
        version: str | int | None = None,
        request_id: str = "",
        parameters: Mapping[str, Parameter] | None = None,
        datatypes: Mapping[str, str] | None = None,
        idempotent: bool = False,
        timeout_s: float | None = None,
        priority: int = 0,
        timing: bool = False,
    ) -> InferResponse:
        """Run a model on tensors, over the Open Inference Protocol.

        Args:
            model: the model's name.
            inputs: input name -> array; text goes as `BYTES`. An array has to be of the dtype
                that the model wants: nothing is converted.
            outputs: names of the wanted outputs; empty means all.
            version: the model's version, or None for the one that the server picks.
            request_id: echoed in the answer.
            parameters: passed to the server as they are.
            datatypes: input name -> datatype, where the dtype does not tell it, such as `BF16`.
            idempotent: whether the model may run twice for this request, so that it is repeated
                even where the server may already have run it.
            timeout_s: seconds for this call, also told to the server; else `Timeouts.request_s`.
            priority: 1 is served first, then 2 and so on; 0 is the middle.
            timing: whether to have `response.timing` filled.

        Returns:
            The answer: `response.outputs["name"]` is a read-only array.
        """
        end_s = self._end_s(timeout_s)
        options = InferOptions(
            outputs,
            version,
            request_id,
            parameters,
            datatypes,
            idempotent,
            timeout_s,
            priority,
            timing,
        )
        if self._shared is not None:
            return await self._make(self._shared.infer(model, inputs, options), end_s)
        return await self._run(self._calls.infer(model, inputs, options), end_s)

    async def empty(self, shape: Sequence[int] | int, dtype: npt.DTypeLike = np.float32) -> Array:
        """Return an array with any content, in memory that is shared with the server if possible.

        A client with `shared_memory=True` sends it, or a row-major part of it, without a copy.
        Small arrays, and all arrays of other clients, lie in ordinary memory. Do not change it
        while a request with it is under way. After a restart of the server it is copied like any
        other array: make a new one.

        Args:
            shape: its dimensions.
            dtype: of its elements.

        Raises:
            SettingsError: the server does not allow shared memory, or there is none left.
        """
        if self._shared is None:
            return np.empty(shape, dtype)
        return await self._make(self._shared.empty(shape, dtype), self._end_s(None))

    async def predict(
        self,
        data: Value,
        model: str | None = None,
        *,
        idempotent: bool = False,
        timeout_s: float | None = None,
    ) -> Value:
        """Hand a model one plain Python value and return its own: `POST /infer`.

        The value travels as a pickle of data only, which neither side can be made to run.

        Args:
            data: None, numbers, text, bytes, arrays, and lists, tuples and dicts of these.
            model: the model's name; may be left out where the server has one, or a default.
            idempotent: as in `infer`.
            timeout_s: as in `infer`.

        Returns:
            What the model returned; arrays are read-only.
        """
        end_s = self._end_s(timeout_s)
        call = self._calls.predict(data, model, idempotent=idempotent, timeout_s=timeout_s)
        return await self._run(call, end_s)

    async def predict_signed(
        self,
        inputs: Mapping[str, Any],
        model: str,
        signing: SigningKey,
        *,
        idempotent: bool = False,
        timeout_s: float | None = None,
    ) -> Value:
        """Hand a model objects of any class, signed: `POST /infer`.

        The server has to allow it, and to know the signing key. It opens them in a process of
        their own, where their classes have to be importable: from the model's folder, or from a
        package that is installed there. What comes back is data.

        Args:
            inputs: input name -> any object that can be pickled.
            model: the model's name.
            signing: what is signed with.
            idempotent: as in `infer`.
            timeout_s: as in `infer`.

        Returns:
            What the model returned; arrays are read-only.

        Raises:
            AccessDenied: the server does not take signed objects, not from this key, or not with
                this signature, for instance because this machine's clock is wrong.
        """
        from pelton.client.signed_calls import SignedCalls

        end_s = self._end_s(timeout_s)
        calls = SignedCalls(self._calls)
        call = calls.predict(inputs, model, signing, idempotent=idempotent, timeout_s=timeout_s)
        return await self._run(call, end_s)

    async def server_live(self) -> bool:
        """Ask whether the server's process answers; unreachable is an error, not False."""
        return await self._ask(self._calls.server_live())

    async def server_ready(self) -> bool:
        """Ask whether the server takes work; unreachable is an error, not False."""
        return await self._ask(self._calls.server_ready())

    async def model_ready(self, model: str, version: str | int | None = None) -> bool:
        """Ask whether a model takes work; False also for one that is not there."""
        return await self._ask(self._calls.model_ready(model, version))

    async def server_metadata(self) -> ServerDescription:
        """Ask for the server's name, version and protocol extensions."""
        return await self._ask(self._calls.server_metadata())

    async def model_metadata(
        self, model: str, version: str | int | None = None
    ) -> ModelDescription:
        """Ask for a model's versions, inputs and outputs."""
        return await self._ask(self._calls.model_metadata(model, version))

    async def models(self) -> tuple[ModelDescription, ...]:
        """Ask for all models, in the order of their names."""
        return await self._ask(self._calls.models())

    async def stats(self, model: str | None = None) -> dict[str, Any]:
        """Ask for counts and times since the server's start, of all models or of one."""
        return await self._ask(self._calls.stats(model))

    async def ask_json(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Ask one of the server's endpoints that has no method of its own here.

        Args:
            method: such as `GET` or `PUT`; only what is asked by `GET` is repeated if no answer
                came.
            path: its path and query, quoted, such as `/v2/routes/digits`.
            body: what is sent as JSON; None for nothing.
            headers: sent with this request besides the client's own, such as `If-Match`.

        Returns:
            The JSON object that the server answered with.
        """
        return await self._ask(self._calls.ask_json(method, path, body, headers or {}))

    async def push(
        self,
        path: str | Path,
        model: str,
        version: int | None = None,
        on_progress: OnProgress | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Published:
        """Publish a new version of a model; it answers once it has passed all gates.

        The files are read on the event loop, a MiB at a time.

        Args:
            path: the folder of one version, a model's single file, or a `.tar` of either.
            model: the model's name; a new one makes a new model.
            version: which version it shall become; None for the next free one.
            on_progress: told while it is sent, and of each gate that it comes to.
            timeout_s: seconds for all of it; None for an hour.

        Raises:
            LoadFailed: a gate refused it; the message says which and why. Nothing has changed.
            Conflict: the version is there already, or the model is being changed.
        """
        end_s = self._end_s(PUSH_TIMEOUT_S if timeout_s is None else timeout_s)
        cargo = await asyncio.to_thread(load_cargo, Path(path))
        return await self._run(self._repository.push(cargo, model, version, on_progress), end_s)

    async def rollback(self, model: str) -> int:
        """Have the version answer that answered before; return which it is."""
        return await self._ask(self._repository.rollback(model))

    async def versions(self, model: str) -> tuple[VersionDescription, ...]:
        """Ask for all versions of a model that are known, in order."""
        return await self._ask(self._repository.versions(model))

    async def repository_index(self, ready_only: bool = False) -> tuple[IndexEntry, ...]:
        """Ask for all versions of all models in the repository, or for those that are ready."""
        return await self._ask(self._repository.index(ready_only))

    async def load_model(self, model: str) -> None:
        """Have a model loaded, or loaded again from its folder; the server has to allow it."""
        await self._ask(self._repository.load(model))

    async def unload_model(self, model: str) -> None:
        """Have a model unloaded once it has answered what it has; the server has to allow it."""
        await self._ask(self._repository.unload(model))

    async def close(self) -> None:
        """Close the idle connections, and the others when their requests end."""
        if self._shared is not None:
            with contextlib.suppress(PeltonError):
                await self._make(self._shared.close(), time.monotonic() + GOODBYE_S)
        self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _end_s(self, timeout_s: float | None) -> float:
        return time.monotonic() + self._timeouts.allowed_s(timeout_s)

    async def _ask(self, call: Call[T]) -> T:
        return await self._run(call, self._end_s(None))

    async def _make(self, asking: Asking[T], end_s: float) -> T:
        """Make the calls that something asks for, all within the time of one."""
        try:
            call = next(asking)
            while True:
                try:
                    answer = await self._run(call, end_s)
                except PeltonError as error:
                    call = asking.throw(error)
                else:
                    call = asking.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            asking.close()

    async def _run(self, call: Call[T], end_s: float) -> T:
        """Try a call until it succeeds, fails for good, or time runs out."""
        attempts: Attempts | None = None
        while True:
            deadline_s = self._timeouts.attempt_end_s(time.monotonic(), end_s)
            if call.patient:
                deadline_s = end_s
            try:
                return call.read(await self._transport.perform(call.request, deadline_s))
            except (NoReply, Unavailable) as failure:
                if attempts is None:
                    attempts = Attempts(self._retries, idempotent=call.idempotent)
                pause_s = attempts.pause_s(failure, end_s - time.monotonic())
                if pause_s is None:
                    raise as_error(failure) from failure.__cause__
            await asyncio.sleep(pause_s)
