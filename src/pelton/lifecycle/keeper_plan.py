"""What the settings say about how models are kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pelton.errors import SettingsError
from pelton.lifecycle.model_steps import SwapPlan
from pelton.lifecycle.observing import RecordingPlan
from pelton.lifecycle.probation import ProbationPlan
from pelton.lifecycle.swap_steps import SwapTimes


class Said(Protocol):
    """The settings in force, by name."""

    def __getitem__(self, name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class KeeperPlan:
    """How models are kept.

    Attributes:
        allow_publish: whether new versions are taken in.
        explicit_models: whether models are loaded and unloaded by request.
        max_upload_bytes: the most that one upload may have.
        max_models_bytes: what the files of all models in memory may take; None for any.
        watch_interval_s: how often it is looked whether the folder has changed; 0 for never.
        start_timeout_s: how long each model may take at the start.
        swap: how versions are exchanged.
    """

    allow_publish: bool = False
    explicit_models: bool = False
    max_upload_bytes: int = 4 << 30
    max_models_bytes: int | None = None
    watch_interval_s: float = 0.0
    start_timeout_s: float = 300.0
    swap: SwapPlan = field(default_factory=SwapPlan)

    @property
    def changes(self) -> bool:
        """Whether models may come and go while the server runs."""
        return self.allow_publish or self.explicit_models or self.watch_interval_s > 0


def plan_of(settings: Said) -> KeeperPlan:
    """Return the plan that the settings make.

    Raises:
        SettingsError: uploads are allowed, and nothing is kept across restarts.
    """
    if settings["allow_publish"] and not (settings["state_dir"] or settings["database_url"]):
        raise SettingsError(
            "allow_publish is on, and nothing says where it is kept which version answers; "
            "set state_dir to a folder as well"
        )
    times = SwapTimes(
        load_timeout_s=settings["load_timeout_s"],
        warm_timeout_s=settings["warm_timeout_s"],
        golden_timeout_s=settings["golden_timeout_s"],
        drain_timeout_s=settings["drain_timeout_s"],
        keep_warm_s=settings["keep_warm_s"],
    )
    probation = ProbationPlan(
        time_s=settings["probation_s"],
        requests=settings["probation_requests"],
        max_error_share=settings["max_error_share"],
        max_nonfinite=settings["max_nonfinite"],
        latency_factor=settings["latency_factor"],
        max_growth_bytes=settings["max_growth_bytes"],
        false_alarm=settings["probation_false_alarm"],
    )
    recording = RecordingPlan(
        requests=settings["record_requests"],
        bytes=settings["record_bytes"],
        one_in=settings["record_one_in"],
        agreement=settings["golden_agreement"],
        latency_factor=settings["latency_factor"],
    )
    plan = KeeperPlan(
        allow_publish=settings["allow_publish"],
        explicit_models=settings["explicit_models"],
        max_upload_bytes=settings["max_upload_bytes"],
        max_models_bytes=settings["max_models_bytes"],
        watch_interval_s=settings["watch_interval_s"],
        start_timeout_s=settings["start_timeout_s"],
        swap=SwapPlan(times, probation, recording, stands_in=settings["probation_stand_in"]),
    )
    return replace(plan, swap=replace(plan.swap, observes=plan.changes))
