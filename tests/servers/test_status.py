"""What the server tells of its models, where routes lead to some of them."""

from __future__ import annotations

from pelton.servers.status import ServerStatus
from pelton.specs import ModelMetadata
from servers.fake_engine import ROBOT, SCALE, FakeEngine


class Routed(FakeEngine):
    """An engine with a route of its own name to a model."""

    ready = True

    def names(self) -> list[str]:
        return ["lab", "robot", "scale"]

    def metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        return SCALE if name == "lab" else super().metadata(name, version)

    def model_ready(self, name: str, version: str | None = None) -> bool:
        return True


def test_a_model_is_listed_once_however_many_routes_lead_to_it() -> None:
    status = ServerStatus(Routed(), "9.9", lambda model: {})
    assert status.models() == [ROBOT, SCALE]
    assert status.metadata("lab") == SCALE
