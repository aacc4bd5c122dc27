"""The settings make the plan, and have the defaults of the records that they fill."""

from __future__ import annotations

from pathlib import Path

import pytest

from pelton.errors import SettingsError
from pelton.lifecycle.keeper_plan import KeeperPlan, plan_of
from pelton.lifecycle.model_steps import SwapPlan
from pelton.settings import load_settings


def said(**flags: str) -> KeeperPlan:
    return plan_of(load_settings(flags, {}))


def test_defaults_are_those_of_the_records() -> None:
    assert said() == KeeperPlan()


def test_publishing_needs_a_state(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set state_dir to a folder as well"):
        said(allow_publish="true")
    plan = said(allow_publish="true", state_dir=str(tmp_path))
    assert plan.allow_publish
    assert plan.changes
    assert plan.swap.observes


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("load_timeout_s", "3s", 3.0),
        ("warm_timeout_s", "4", 4.0),
        ("golden_timeout_s", "5", 5.0),
        ("drain_timeout_s", "6", 6.0),
        ("keep_warm_s", "0", 0.0),
    ],
)
def test_times_are_set(name: str, written: str, value: float) -> None:
    assert getattr(said(**{name: written}).swap.times, name) == value


def test_the_rest_is_set() -> None:
    plan = said(
        probation_s="1m",
        probation_requests="7",
        max_error_share="0.5",
        max_nonfinite="3",
        latency_factor="1.5",
        max_growth_bytes="3MiB",
        probation_false_alarm="0.01",
        record_requests="5",
        record_bytes="1KiB",
        record_one_in="2",
        golden_agreement="0.75",
        max_models_bytes="1GiB",
        max_upload_bytes="2MiB",
        watch_interval_s="5s",
        explicit_models="yes",
        start_timeout_s="10m",
    )
    probation, recording = plan.swap.probation, plan.swap.recording
    assert (probation.time_s, probation.requests, probation.max_error_share) == (60.0, 7, 0.5)
    assert (probation.max_nonfinite, probation.latency_factor) == (3, 1.5)
    assert (probation.max_growth_bytes, probation.false_alarm) == (3 << 20, 0.01)
    assert (recording.requests, recording.bytes, recording.one_in) == (5, 1024, 2)
    assert (recording.agreement, recording.latency_factor) == (0.75, 1.5)
    assert (plan.max_models_bytes, plan.max_upload_bytes) == (1 << 30, 2 << 20)
    assert (plan.watch_interval_s, plan.explicit_models, plan.changes) == (5.0, True, True)
    assert plan.start_timeout_s == 600.0


@pytest.mark.parametrize("written", ["2", "-0.1", "nan", "x", "1_0", ""])
def test_a_share_is_a_share(written: str) -> None:
    with pytest.raises(SettingsError, match="it has to be a number from 0 to 1"):
        said(max_error_share=written)


def test_nothing_is_observed_where_nothing_changes() -> None:
    assert said().swap == SwapPlan(observes=False)


@pytest.mark.parametrize("name", ["explicit_models", "watch_interval_s"])
def test_whatever_way_a_version_comes_it_is_observed(name: str) -> None:
    assert said(**{name: "1"}).swap == SwapPlan(observes=True)
