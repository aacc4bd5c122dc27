"""A request's name and version lead to one model, or to an answer that says what is there."""

from __future__ import annotations

import re

import pytest

from engine.fake_models import FakeClock, FakeModel, described, model_of
from pelton.engine.models import Models
from pelton.errors import Code, NotFound


def served(*names_and_versions: tuple[str, str]) -> Models:
    return Models(
        model_of(FakeModel(metadata=described(name=name, version=version)), FakeClock())
        for name, version in names_and_versions
    )


TWO = (("robot", "3"), ("digits", "12"))


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [("robot", None, "3"), ("robot", "3", "3"), ("digits", None, "12"), ("digits", "12", "12")],
)
def test_a_name_finds_its_model(name: str, version: str | None, found: str) -> None:
    metadata = served(*TWO).find(name, version).metadata
    assert (metadata.name, metadata.version) == (name, found)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("cat", None, "unknown model 'cat'; served are: digits, robot"),
        ("Robot", None, "unknown model 'Robot'; served are: digits, robot"),
        ("", None, "unknown model ''; served are: digits, robot"),
        ("robot", "12", "version '12' of model 'robot' is not served; ready are: 3; labels: none"),
        ("robot", "03", "version '03' of model 'robot' is not served; ready are: 3; labels: none"),
        ("robot", "", "version '' of model 'robot' is not served; ready are: 3; labels: none"),
    ],
)
def test_what_is_not_served_is_told_with_what_is(name, version, message) -> None:
    with pytest.raises(NotFound, match=f"^{re.escape(message)}$") as caught:
        served(*TWO).find(name, version)
    assert caught.value.code is Code.NOT_FOUND


def test_an_empty_server_says_so() -> None:
    with pytest.raises(NotFound, match=r"^unknown model 'm'; no model is served$"):
        Models().find("m")


def test_messages_are_bounded() -> None:
    many = served(*[(f"model-{index:03}", "1") for index in range(100)])
    with pytest.raises(NotFound) as caught:
        many.find("x" * 10_000)
    assert caught.value.message.endswith("model-018, model-019, ...")
    assert len(caught.value.message) < 400
    with pytest.raises(NotFound) as caught:
        many.find("model-001", "9" * 10_000)
    assert len(caught.value.message) < 150


def test_names_and_metadata_are_in_order() -> None:
    models = served(("b", "1"), ("a", "2"), ("c", "3"))
    assert models.names() == ["a", "b", "c"]
    assert [metadata.version for metadata in models.metadata()] == ["2", "1", "3"]


def test_closing_unloads_every_model_once() -> None:
    loaded = [FakeModel(metadata=described(name=name)) for name in "ab"]
    models = Models(model_of(each, FakeClock()) for each in loaded)
    models.close()
    models.close()
    assert [each.closed for each in loaded] == [1, 1]
    assert models.names() == []
