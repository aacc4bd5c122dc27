"""The client for threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from pelton.client.blocking import Transport
from pelton.client.calls import Call, Calls, InferOptions
from pelton.client.described import ModelDescription, ServerDescription
from pelton.client.failure import NoReply
from pelton.client.opening import peer_of
from pelton.client.options import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUTS,
    DEFAULT_URL,
    GOODBYE_S,
    MAX_CONNECTIONS,
    MAX_REPLY_BYTES,
    Retries,
    Timeouts,
    check_positive,
)
from pelton.client.retrying import Attempts, as_error
from pelton.client.shared_calls import Asking, SharedCalls
from pelton.errors import PeltonError, Unavailable
from pelton.messages import InferResponse, Parameter, Value
from pelton.tensors import Array

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

T = TypeVar("T")


class Client:
    """Asks a server from ordinary code; any number of threads may share one client.

    Connections are kept and used again. Big arrays are sent from their own memory, and the
    arrays of an answer are read-only views of the memory into which it was received. Proxies
    named by environment variables are not used.

    Every method raises

    * `ConnectionFailed` if the server cannot be reached, or no whole answer comes;
    * `DeadlineExceeded` if time runs out, here or at the server;
    * `Unavailable` if the server is too busy, loading or ending;
    * `InvalidRequest` or `NotFound` if the request is wrong;
    * `ModelFailed` if the model's own code failed.

    A failed request is repeated, after growing pauses, where that is safe: a question always, an
    inference only if the server never had all of it or said when to come back.

    Example:
        >>> with Client("http://127.0.0.1:50000") as client:  # doctest: +SKIP
        ...     response = client.infer("digits", {"image": np.zeros((1, 8, 8), np.uint8)})
        ...     print(response.outputs["probabilities"].argmax())
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retries: Retries = DEFAULT_RETRIES,
        max_connections: int = MAX_CONNECTIONS,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        shared_memory: bool = False,
    ) -> None:
        """Open nothing yet.

        Args:
            url: the server, with the path under which a proxy offers it, if any; or
                `unix:/run/pelton.sock` for one that listens on a Unix socket.
            timeouts: how long to wait.
            retries: how often to try.
            max_connections: open at once; further requests wait for one.
            max_reply_bytes: largest reply, also after its values were expanded to arrays.
            headers: sent with every request, such as `Authorization`.
            tls: whom to trust for `https://`; None for the system's certificate authorities.
            shared_memory: whether big tensors of `infer` go through memory that this process
                shares with the server, which has to be on this machine and to allow it. They are
                not copied if they lie in memory of `empty`, else once. Such a client is best
                closed: until then the server keeps the memory, too.

        Raises:
            SettingsError: one of these is wrong.
        """
        check_positive(max_connections=max_connections, max_reply_bytes=max_reply_bytes)
        peer = peer_of(url, tls, timeouts.connect_s)
        self._timeouts = timeouts
        self._retries = retries
        self._calls = Calls(peer.address, headers, max_reply_bytes)
        self._shared = SharedCalls(self._calls) if shared_memory else None
        self._transport = Transport(
            peer,
            idle_s=timeouts.idle_s,
            max_connections=max_connections,
            max_reply_bytes=max_reply_bytes,
        )

    def infer(
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
            return self._make(self._shared.infer(model, inputs, options), end_s)
        return self._run(self._calls.infer(model, inputs, options), end_s)

    def empty(self, shape: Sequence[int] | int, dtype: npt.DTypeLike = np.float32) -> Array:
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
        return self._make(self._shared.empty(shape, dtype), self._end_s(None))

    def predict(
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
        return self._run(call, end_s)

    def server_live(self) -> bool:
        """Ask whether the server's process answers; unreachable is an error, not False."""
        return self._ask(self._calls.server_live())

    def server_ready(self) -> bool:
        """Ask whether the server takes work; unreachable is an error, not False."""
        return self._ask(self._calls.server_ready())

    def model_ready(self, model: str, version: str | int | None = None) -> bool:
        """Ask whether a model takes work; False also for one that is not there."""
        return self._ask(self._calls.model_ready(model, version))

    def server_metadata(self) -> ServerDescription:
        """Ask for the server's name, version and protocol extensions."""
        return self._ask(self._calls.server_metadata())

    def model_metadata(self, model: str, version: str | int | None = None) -> ModelDescription:
        """Ask for a model's versions, inputs and outputs."""
        return self._ask(self._calls.model_metadata(model, version))

    def models(self) -> tuple[ModelDescription, ...]:
        """Ask for all models, in the order of their names."""
        return self._ask(self._calls.models())

    def stats(self, model: str | None = None) -> dict[str, Any]:
        """Ask for counts and times since the server's start, of all models or of one."""
        return self._ask(self._calls.stats(model))

    def close(self) -> None:
        """Close the idle connections, and the others when their requests end."""
        if self._shared is not None:
            with contextlib.suppress(PeltonError):
                self._make(self._shared.close(), time.monotonic() + GOODBYE_S)
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _end_s(self, timeout_s: float | None) -> float:
        return time.monotonic() + self._timeouts.allowed_s(timeout_s)

    def _ask(self, call: Call[T]) -> T:
        return self._run(call, self._end_s(None))

    def _make(self, asking: Asking[T], end_s: float) -> T:
        """Make the calls that something asks for, all within the time of one."""
        try:
            call = next(asking)
            while True:
                try:
                    answer = self._run(call, end_s)
                except PeltonError as error:
                    call = asking.throw(error)
                else:
                    call = asking.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            asking.close()

    def _run(self, call: Call[T], end_s: float) -> T:
        """Try a call until it succeeds, fails for good, or time runs out."""
        attempts: Attempts | None = None
        while True:
            deadline_s = self._timeouts.attempt_end_s(time.monotonic(), end_s)
            try:
                return call.read(self._transport.perform(call.request, deadline_s))
            except (NoReply, Unavailable) as failure:
                if attempts is None:
                    attempts = Attempts(self._retries, idempotent=call.idempotent)
                pause_s = attempts.pause_s(failure, end_s - time.monotonic())
                if pause_s is None:
                    raise as_error(failure) from failure.__cause__
            time.sleep(pause_s)
