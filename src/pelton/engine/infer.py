"""The whole way of a request through the engine: choose, check, run, observe, reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pelton.engine.digest import digest_of
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable
from pelton.messages import InferRequest, InferResponse, Observe, Observed, Timing, Value
from pelton.routing.choice import HEADER, Choice, told
from pelton.specs import ModelMetadata

Chosen = Callable[[InferRequest, Choice], None]
"""Told of each request for which something was chosen, or that another version gets a copy of,
once it has been given to its version; must be quick and must not raise."""


def _untold(request: InferRequest, choice: Choice) -> None:
    pass


class Engine:
    """Offers the one verb, `infer`, over the models that are loaded.

    Attributes:
        models: the models being served.
        ready: whether new work is welcome, as load balancers should hear it.
    """

    def __init__(self, models: Models, observe: Observe, chosen: Chosen = _untold) -> None:
        self.models = models
        self.ready = True
        self._observe = observe
        self._chosen = chosen
        self._refusing = False
        self._running = 0
        self._all_done = asyncio.Event()

    async def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request.

        Args:
            request: the decoded request.

        Returns:
            The wanted outputs of the model version that answered.

        Raises:
            NotFound: no such model, version or label.
            InvalidRequest: the inputs or the wanted outputs do not fit the model.
            ModelFailed: the model raised.
            DeadlineExceeded: the request's time was over before it had an answer.
            Unavailable: too many requests wait for the model, its worker died, its version is not
                ready, or the server is shutting down.
        """
        if self._refusing:
            self.refused(request.model, Code.UNAVAILABLE)
            raise Unavailable("the server is shutting down; send the request to another", 1.0)
        self._running += 1
        model: Model | None = None
        try:
            model, choice = self.models.choose(request)
            model.enter()
            if choice.unit or choice.shadow is not None:
                self._chosen(request, choice)
            answer, timing = await model.answer(request)
            response = _reply(request, model, choice, answer.outputs, timing)
        except PeltonError as error:
            if model is None:
                self.refused(request.model, error.code)
            else:
                self._observe(Observed(model.name, error.code, Timing(), 0, model.version))
                model.saw(request, error.code)
            raise
        finally:
            if model is not None:
                model.leave()
            self._leave()
        self._observe(Observed(model.name, None, timing, answer.batch_rows, model.version))
        if model.watch is not None:
            model.saw(request, None, timing, response.outputs)
        return response

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        """Return what a served model says of itself.

        Raises:
            NotFound: no such model or version.
        """
        return self.models.find(name, version).metadata

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Tell whether a served model has an instance that is there to run it.

        Raises:
            NotFound: no such model or version.
        """
        return self.models.find(name, version).ready

    def names(self) -> list[str]:
        """Return the names of the served models in order."""
        return self.models.names()

    def refused(self, model: str, code: Code) -> None:
        """Have a request counted that failed, here or already while it was being decoded."""
        self._observe(Observed(model, code, Timing()))

    def _leave(self) -> None:
        self._running -= 1
        if self._refusing and not self._running:
            self._all_done.set()

    async def drain(self, grace_s: float) -> int:
        """Refuse new requests and wait for those that run or wait.

        Args:
            grace_s: seconds to wait at the most.

        Returns:
            How many requests had no answer yet when the time was over.
        """
        self.ready = False
        self._refusing = True
        if not self._running:
            return 0
        try:
            async with asyncio.timeout(grace_s):
                await self._all_done.wait()
        except TimeoutError:
            pass
        return self._running


def _reply(
    request: InferRequest,
    model: Model,
    choice: Choice,
    outputs: dict[str, Value],
    timing: Timing,
) -> InferResponse:
    metadata = model.metadata
    if request.outputs:
        missing = [name for name in request.outputs if name not in outputs]
        if missing:
            raise InvalidRequest(
                f"model {metadata.name!r} has no output {missing[0]!r:.80}; "
                f"it gives {', '.join(list(outputs)[:20])}"
            )
        outputs = {name: outputs[name] for name in request.outputs}
    response = InferResponse(metadata.name, metadata.version, outputs, request.id, timing)
    response.metadata = metadata
    if model.deterministic:
        response.digest = digest_of(outputs)
    if choice.unit and (said := told(choice)) is not None:
        response.notes = ((HEADER, said),)
    return response
