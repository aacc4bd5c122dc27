"""The whole way of a request through the engine: choose, check, run, observe, reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from pelton.engine.cached import answer_at_once, answer_cached, asked_parameters
from pelton.engine.lending import Lease, Lender, lent_as
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.engine.reply import reply
from pelton.engine.stand_in import HEADER as STAND_IN_HEADER
from pelton.engine.stand_in import stand_in
from pelton.errors import Code, InvalidRequest, PeltonError, Unavailable
from pelton.messages import InferRequest, InferResponse, Observe, Observed, Parameter, Timing
from pelton.routing.choice import HEADER, Choice, told
from pelton.specs import ModelMetadata

Chosen = Callable[[InferRequest, Choice], None]
"""Told of each request for which a split has chosen, or of which another version gets a copy, just
before its version runs; must be quick and must not raise."""


def _untold(request: InferRequest, choice: Choice) -> None:
    pass


class Engine:
    """Offers the one verb, `infer`, over the models that are loaded.

    Attributes:
        models: the models being served.
        ready: whether new work is welcome, as load balancers should hear it.
    """

    def __init__(
        self,
        models: Models,
        observe: Observe,
        chosen: Chosen = _untold,
        lender: Lender | None = None,
    ) -> None:
        """Make the engine.

        Args:
            models: what is served.
            observe: told of every request.
            chosen: told of those for which there was a choice.
            lender: keeps the models loaded that requests need, where memory for models is bounded;
                None where all of them stay loaded.
        """
        self.models = models
        self.ready = True
        self._observe = observe
        self._chosen = chosen
        self._lender = lender
        self._refusing = False
        self._running = 0
        self._all_done = asyncio.Event()

    async def infer(self, request: InferRequest) -> InferResponse:
        """Answer one request with the wanted outputs of the version that is chosen for it.

        Raises:
            NotFound: no such model, version or label.
            InvalidRequest: the inputs or the wanted outputs do not fit the model.
            ModelFailed: the model raised.
            DeadlineExceeded: the request's time was over before it had an answer.
            Unavailable: too many wait, a worker died, the version is not ready, the server ends.
        """
        if self._refusing:
            raise self._shutting_down(request)
        self._running += 1
        model, lease = None, None
        try:
            choice = self.models.table.choose(request, request.key)
            lease = None if self._lender is None else await _leased(self._lender, choice)
            model = self.models.at(choice.model, choice.version) if lease is None else lease.model
            model.enter()
            if choice.unit or choice.shadow is not None:
                self._chosen(request, choice)
            if request.signed:
                response, rows = await _answer_signed(request, model), 0
            elif (cache := model.cache) is None or request.changeable:
                if cache is not None:
                    cache.settle()  # before a run of which it is not told
                checked = model.checked(request)
                if model.is_quick(checked):
                    outputs, rows, timing = model.answer_at_once(request, checked)
                else:
                    (outputs, rows, _), timing = await model.answer(request, checked)
                response = reply(request, model, outputs, timing)
            else:
                asked = model.checked(request), request.parameters and self._asked(request, choice)
                found = answer_at_once(request, model, cache, asked)
                response, rows = found or await answer_cached(request, model, cache, asked)
        except PeltonError as error:
            self._failed(request, model, error.code)
            if model is None or (other := await self._other(request, model, choice, error)) is None:
                raise
            return other
        finally:
            self._leave(model, lease)
        self._observe(Observed(model.name, None, response.timing, rows, model.version))
        watch = model.watch
        if watch is not None and rows and watch(request, None, response.timing, response.outputs):
            response = await self._other(request, model, choice) or response
        return _noted(response, choice) if choice.unit else response

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        """Return what a served model says of itself.

        Raises:
            NotFound: no such model or version.
            Unavailable: the version that stands for the name is not ready.
        """
        return self.models.metadata_of(name, version)

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Tell whether a served model can take a request, were it by being loaded for it.

        Raises:
            NotFound: no such model or version.
            Unavailable: the version that stands for the name is not ready.
        """
        return self.models.is_ready(name, version)

    def names(self) -> list[str]:
        """Return the names for which somebody answers, of models and of routes, in order."""
        return self.models.names()

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that can be asked for, as text, ascending."""
        return [str(one) for one in self.models.versions_of(name)]

    def refused(self, model: str, code: Code) -> None:
        """Have a request counted that failed, here or already while it was being decoded."""
        self._observe(Observed(model, code, Timing()))

    def _shutting_down(self, request: InferRequest) -> Unavailable:
        self.refused(request.model, Code.UNAVAILABLE)
        return Unavailable("the server is shutting down; send the request to another", 1.0)

    def _failed(self, request: InferRequest, model: Model | None, code: Code) -> None:
        if model is None:
            self.refused(request.model, code)
            return
        self._observe(Observed(model.name, code, Timing(), 0, model.version))
        if model.watch is not None and not request.signed:
            model.watch(request, code, None, None)

    def _asked(self, request: InferRequest, choice: Choice) -> Mapping[str, Parameter]:
        return asked_parameters(request, self.models.table.routes.get(choice.route))

    async def _other(
        self,
        request: InferRequest,
        failing: Model,
        failed: Choice,
        failure: PeltonError | None = None,
    ) -> InferResponse | None:
        """Have another version answer a request than the one that was chosen and has failed it.

        Returns:
            Its answer; None if nobody may, or if it has none either.
        """
        choice = stand_in(failing, request, failed, failure)
        if choice is None:
            return None
        self._running += 1
        model, lease = None, None
        try:
            lease = None if self._lender is None else await _leased(self._lender, choice)
            model = self.models.at(choice.model, choice.version) if lease is None else lease.model
            model.enter()
            answer, timing = await model.answer(request)
            response = reply(request, model, answer.outputs, timing)
        except PeltonError as error:
            self._failed(request, model, error.code)
            return None
        finally:
            self._leave(model, lease)
        self._observe(Observed(model.name, None, timing, answer.batch_rows, model.version))
        if model.watch is not None:
            model.watch(request, None, timing, response.outputs)
        response.notes = (*response.notes, (STAND_IN_HEADER, choice.arm))
        return response

    def _leave(self, model: Model | None, lease: Lease | None) -> None:
        if model is not None:
            model.leave()
        if lease is not None:
            lease.release()
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


def _noted(response: InferResponse, choice: Choice) -> InferResponse:
    if (said := told(choice)) is not None:
        response.notes = (*response.notes, (HEADER, said))
    return response


async def _answer_signed(request: InferRequest, model: Model) -> InferResponse:
    if model.signed is None:
        raise InvalidRequest(f"model {model.name!r} takes arrays, not signed objects")
    outputs, timing = await model.signed.answer(request)
    return reply(request, model, outputs, timing)


async def _leased(lender: Lender, choice: Choice) -> Lease:
    name = lent_as(choice.model, choice.version)
    return lender.lease_now(name) or await lender.lease(name)
