"""One version of one model in this server: from the order to load it until its memory is back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pelton.engine.model import Model, StandIn, Watch
from pelton.engine.model_states import SERVING, Standing, State
from pelton.lifecycle.facts import RecentFacts
from pelton.lifecycle.swap_steps import Numbers
from pelton.messages import InferRequest
from pelton.repository.publishing import Staged
from pelton.specs import ModelSpec


@dataclass(slots=True, eq=False)
class Source:
    """What is to be loaded.

    Attributes:
        spec: the version, where it lies now; its digest has been found to be right.
        staged: the version as it was received; None for one that is in its place already.
        begun: whether a swap has taken it over, which then also clears it away.
    """

    spec: ModelSpec
    staged: Staged | None = None
    begun: bool = False


class Version:
    """A version that is loaded, about to be, or about to go; two are never equal.

    Attributes:
        source: what it is loaded from.
        spec: likewise, the version itself.
        number: which version it is.
        model: what answers; None while it is not in memory.
        standing: how far it has come.
        recent: what its latest requests showed.
        numbers: what was measured before it was switched to.
        watch: told of each request that it was given, every time that it is loaded.
        died: told likewise when a worker process of it has ended by itself.
        stand_in: says who may answer a request that it fails, if anybody.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.spec = source.spec
        self.number = source.spec.version
        self.model: Model | None = None
        self.standing = Standing().moved(State.LOADING)
        self.recent = RecentFacts()
        self.numbers: Numbers = {}
        self.watch: Watch | None = None
        self.died: Callable[[], None] | None = None
        self.stand_in: Callable[[InferRequest], StandIn | None] | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.spec.name

    @property
    def serving(self) -> bool:
        """Whether it may be given requests."""
        return self.standing.state in SERVING

    def became(self, model: Model) -> None:
        """Note that it is in memory now, as this model."""
        self.model = model
        model.watch = self.watch
        model.stand_in = self.stand_in
        if self.died is not None:
            model.on_death(self.died)

    def move(self, *states: State) -> None:
        """Note how far it has come, state by state; where it is already, it stays.

        Raises:
            IllegalTransition: it cannot go there.
        """
        for state in states:
            if self.standing.state is not state:
                self.standing = self.standing.moved(state)

    def leave(self) -> None:
        """Note that it is on its way out."""
        if self.standing.state is State.READY:
            self.move(State.DRAINING)

    def left(self) -> None:
        """Note that its memory is back."""
        self.leave()
        self.move(State.UNLOADED)
