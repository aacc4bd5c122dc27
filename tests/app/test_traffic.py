"""Routes and labels: set, kept, followed by requests, and told to the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

import pytest

from app.traffic_world import Served, Server, Start, kept, pinned
from lifecycle.keepers import until
from pelton import traffic as traffic_module
from pelton.errors import Conflict, InvalidRequest, NotFound, PeltonError
from pelton.records import NEW
from pelton.servers.traffic_control import RouteRow, TrafficControl
from pelton.state.state import State
from pelton.traffic import Traffic
from services.databases import tell


@pytest.fixture
def server(database_url: str) -> Iterator[Start]:
    """Start servers over one database; each follows it once `start` was called in a test."""
    made: list[Server] = []

    def start(**options) -> Server:
        made.append(Server(database_url, **options))
        made[-1].keeping.start()
        return made[-1]

    yield start
    for each in made:
        each.keeping.close()


async def test_a_route_is_in_force_when_setting_it_returns(server) -> None:
    one = server()
    control: TrafficControl = one.traffic
    assert (one.served.version(), control.routes()) == (4, [])
    first = await control.set_route("digits", pinned(3), None, "k1")
    assert first == RouteRow("digits", 1, kept(3)) == control.route("digits")
    assert one.served.version() == 3
    second = await control.set_route("digits", pinned(2), first.revision, "k2")
    assert (one.served.version(), second.revision) == (2, 2)
    assert await control.delete_route("digits", second.revision, "k3") == second
    assert (one.served.version(), control.routes()) == (4, [])
    assert one.changes() == [
        ("k3", "route.delete", "digits", kept(2), None),
        ("k2", "route.set", "digits", kept(3), kept(2)),
        ("k1", "route.set", "digits", None, kept(3)),
    ]


async def test_a_request_sees_one_table_from_beginning_to_end(server) -> None:
    one = server()
    before = one.served.table
    await one.traffic.set_route("digits", pinned(3), None, "")
    assert one.served.table is not before
    assert before.route("digits").name not in before.routes


async def test_another_server_follows(server) -> None:
    one, other = server(), server()
    await one.traffic.set_route("digits", pinned(3), None, "")
    await one.traffic.set_label("digits", "stable", 2, "")
    await other.keeping.refresh()
    assert other.served.version() == 3
    assert other.traffic.labels("digits") == {"stable": 2}
    await other.traffic.set_route("digits", pinned("stable"), None, "")
    await one.keeping.refresh()
    assert one.served.version() == 2
    await other.traffic.delete_route("digits", None, "")
    await one.keeping.refresh()
    assert (one.served.version(), one.traffic.routes()) == (4, [])


class Shelf:
    """Versions of `digits` that lie in the folder and are loaded when they are asked for."""

    def __init__(self, server: Server, there: set[int]) -> None:
        self.asked: list[set[int]] = []
        self._served, self._there = server.served, there
        server.served.table = server.served.table.with_versions("digits", [4])
        server.traffic.bring_in = self.bring_in

    async def bring_in(self, model: str, numbers: Collection[int]) -> None:
        self.asked.append(set(numbers))
        await asyncio.sleep(0)
        ready = {4, *self._served.table.models[model].ready, *(self._there & set(numbers))}
        self._served.table = self._served.table.with_versions(model, ready)


async def test_what_another_server_names_is_loaded_here_too(server, caplog) -> None:
    one, other = server(), server()
    shelf = Shelf(other, {1, 2, 4})
    await other.traffic.begin()
    await one.traffic.set_route("digits", pinned(1), None, "")
    await until(lambda: tuple(other.served.table.models["digits"].ready - {4}) == (1,))
    assert other.served.version() == 1
    await one.traffic.set_label("digits", "stable", 2, "")
    await until(lambda: 2 in other.served.table.models["digits"].ready)
    assert other.served.version(asked="stable") == 2
    assert [each for each in caplog.records if each.levelname == "WARNING"] == []

    await one.traffic.set_label("digits", "canary", 3, "")  # which lies there, and not here
    await one.traffic.set_route("lab", {"model": "digits", **pinned("canary")}, None, "")
    await until(lambda: len([one for one in caplog.records if one.levelname == "WARNING"]) == 2)
    assert "label 'canary' of 'digits': version 3 is not served" in caplog.text
    assert "a route that is kept cannot be followed: route 'lab': version 'canary'" in caplog.text
    assert other.served.version() == 1, "the others go on"
    assert shelf.asked == [{1}, {2}, {3}], "each is tried once"
    await other.traffic.end()


async def test_what_is_being_loaded_at_the_end_is_given_up(server) -> None:
    one, other = server(), server()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hangs(_model: str, _numbers: Collection[int]) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    Shelf(other, set())
    await other.traffic.begin()
    other.traffic.bring_in = hangs
    await one.traffic.set_route("digits", pinned(1), None, "")
    await asyncio.wait_for(begun.wait(), 20)
    await other.traffic.end()
    assert ended.is_set()


async def test_routes_and_labels_outlive_the_server(server) -> None:
    one = server()
    await one.traffic.set_label("digits", "stable", 2, "")
    await one.traffic.set_route("lab", {"model": "digits", **pinned("stable")}, None, "")
    again = server()
    assert again.served.version("lab") == 2
    assert again.traffic.routes() == [RouteRow("lab", 1, kept("stable"))]


async def test_a_change_names_the_revision_that_it_is_based_on(server) -> None:
    one = server()
    first = await one.traffic.set_route("digits", pinned(3), NEW, "")
    with pytest.raises(Conflict, match="is at revision 1, and the request wants it to be new"):
        await one.traffic.set_route("digits", pinned(2), NEW, "")
    second = await one.traffic.set_route("digits", pinned(2), first.revision, "")
    with pytest.raises(Conflict, match="is at revision 2, and the request wants it to be at"):
        await one.traffic.set_route("digits", pinned(1), first.revision, "")
    with pytest.raises(Conflict, match="revision 1"):
        await one.traffic.delete_route("digits", first.revision, "")
    with pytest.raises(Conflict, match="'lab' is not set, and the request wants it to be at"):
        await one.traffic.set_route("lab", {"model": "digits", **pinned(1)}, 7, "")
    assert one.traffic.routes() == [second]
    assert len(one.changes()) == 2


async def test_who_names_no_revision_has_the_last_word_and_the_trail_is_true(server) -> None:
    one, other = server(), server()
    writers = [
        each.traffic.set_route("digits", pinned(1 + number % 4), None, f"k{number}")
        for number, each in enumerate([one, other] * 30)
    ]
    rows = await asyncio.gather(*writers)
    chain = one.changes()[::-1]
    assert len(chain) == len(rows) == 60
    assert [before for *_, before, _ in chain] == [None, *(after for *_, after in chain[:-1])]
    for each in (one, other):
        await each.keeping.refresh()
        assert each.traffic.route("digits").policy == chain[-1][-1]
        assert each.served.version() == chain[-1][-1]["version"]


@pytest.mark.parametrize(
    ("name", "plain", "said"),
    [
        ("digits", {"policy": "pined"}, "one of latest, pinned, split"),
        ("digits", pinned(9), "version '9' of model 'digits' is not served; ready are: 1, 2, 3, 4"),
        ("digits", pinned("stable"), "labels: none"),
        ("lab", pinned(1), "unknown model 'lab'; served are: digits"),
        ("a/b", pinned(1), "is no name of a route"),
        ("digits", [], "it must be an object"),
    ],
)
async def test_what_could_not_be_followed_is_refused_and_leaves_nothing(
    server, name, plain, said
) -> None:
    one = server()
    with pytest.raises(InvalidRequest, match=said):
        await one.traffic.set_route(name, plain, None, "")
    assert (one.traffic.routes(), one.changes(), one.served.version()) == ([], [], 4)


async def test_there_are_so_many_routes_and_no_more(server, monkeypatch) -> None:
    monkeypatch.setattr(traffic_module, "MAX_ROUTES", 2)
    one = server()
    for name in ("digits", "lab", "digits"):
        await one.traffic.set_route(name, {"model": "digits", **pinned(1)}, None, "")
    with pytest.raises(InvalidRequest, match="there are 2 routes already; delete one before"):
        await one.traffic.set_route("more", {"model": "digits", **pinned(1)}, None, "")
    await one.traffic.delete_route("lab", None, "")
    await one.traffic.set_route("more", {"model": "digits", **pinned(1)}, None, "")
    assert [row.name for row in one.traffic.routes()] == ["digits", "more"]


async def test_a_route_that_is_not_there_is_not_found(server) -> None:
    one = server()
    for name, said in (("digits", "the model of this name answers"), ("lab", "no route 'lab' is")):
        with pytest.raises(NotFound, match=said):
            one.traffic.route(name)
        with pytest.raises(NotFound, match=said):
            await one.traffic.delete_route(name, None, "")
    assert one.changes() == []


async def test_a_kept_route_that_cannot_be_followed_stays_and_is_told(
    server, database_url: str, caplog
) -> None:
    state = State.open(database_url)
    state.routes.set("digits", {"policy": "oracle", "by": "moon"}, None, tell())
    state.routes.set("lab", kept(9), None, tell())
    state.routes.set("scan", kept(2), None, tell())
    state.close()
    one = server()
    await one.traffic.begin()
    assert one.served.version("scan") == 2
    assert one.served.version("digits") == 4  # as if it were not there
    told = {row.name: row.problem for row in one.traffic.routes()}
    assert told["scan"] == ""
    assert "one of latest, pinned, split" in told["digits"]
    assert "version '9' of model 'digits' is not served" in told["lab"]
    warned = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert [("'digits'" in each, "'lab'" in each) for each in warned] == [
        (True, False),
        (True, True),
    ]
    one.served.table = one.served.table.with_versions("digits", [1, 9])
    assert (one.served.version("lab"), one.traffic.route("lab").problem) == (9, "")
    await one.traffic.set_route("digits", pinned(1), None, "")
    assert one.served.version() == 1


async def test_a_label_moves_every_route_that_names_it(server) -> None:
    one = server()
    await one.traffic.set_label("digits", "stable", 2, "k1")
    await one.traffic.set_route("digits", pinned("stable"), None, "k1")
    await one.traffic.set_label("digits", "stable", 3, "k2")
    assert (one.served.version(), one.served.version(asked="stable")) == (3, 3)
    with pytest.raises(Conflict, match="the route 'digits' names the label 'stable'"):
        await one.traffic.delete_label("digits", "stable", "k3")
    await one.traffic.delete_route("digits", None, "k3")
    await one.traffic.delete_label("digits", "stable", "k3")
    assert one.traffic.labels("digits") == {}
    two, three = ({"label": "stable", "version": version} for version in (2, 3))
    of_labels = [row for row in one.changes() if row[1].startswith("label.")]
    assert of_labels == [
        ("k3", "label.delete", "digits", three, None),
        ("k2", "label.set", "digits", two, three),
        ("k1", "label.set", "digits", None, two),
    ]


async def test_a_label_is_not_taken_from_a_route_that_is_set_at_the_same_time(server) -> None:
    one, other = server(), server(look_s=60.0)
    for _ in range(20):
        await one.traffic.set_label("digits", "stable", 2, "")
        await other.keeping.refresh()
        ended = await asyncio.gather(
            other.traffic.set_route("digits", pinned("stable"), None, ""),
            one.traffic.delete_label("digits", "stable", ""),
            return_exceptions=True,
        )
        refused = [each for each in ended if isinstance(each, PeltonError)]
        assert len(refused) == 1, ended
        assert type(refused[0]) is (InvalidRequest if refused[0] is ended[0] else Conflict)
        if refused[0] is ended[1]:
            await one.traffic.delete_route("digits", None, "")


async def test_what_another_server_has_not_noticed_yet_is_refused_all_the_same(server) -> None:
    one, other = server(), server(look_s=60.0)
    await one.traffic.set_label("digits", "stable", 2, "")
    await other.keeping.refresh()
    await one.traffic.set_route("lab", {"model": "digits", **pinned("stable")}, None, "")
    with pytest.raises(Conflict, match="the route 'lab' names the label 'stable'"):
        await other.traffic.delete_label("digits", "stable", "")
    await one.traffic.delete_route("lab", None, "")
    await one.traffic.delete_label("digits", "stable", "")
    with pytest.raises(InvalidRequest, match="'stable' of 'digits' was deleted meanwhile"):
        await other.traffic.set_route("lab", {"model": "digits", **pinned("stable")}, None, "")


@pytest.mark.parametrize(
    ("model", "label", "version", "error", "said"),
    [
        ("lab", "stable", 1, NotFound, "unknown model 'lab'"),
        ("digits", "Stable", 1, InvalidRequest, "is no label of 'digits'"),
        ("digits", "latest", 1, InvalidRequest, "is no label of 'digits'"),
        ("digits", "stable", "1", InvalidRequest, "must be a whole number"),
        ("digits", "stable", True, InvalidRequest, "must be a whole number"),
        ("digits", "stable", 9, InvalidRequest, "version '9' of model 'digits' is not served"),
    ],
)
async def test_a_label_that_could_not_be_followed_is_refused(
    server, model, label, version, error, said
) -> None:
    one = server()
    with pytest.raises(error, match=said):
        await one.traffic.set_label(model, label, version, "")
    assert (one.traffic.labels("digits"), one.changes()) == ({}, [])


async def test_a_model_has_so_many_labels_and_no_more(server) -> None:
    one = server(look_s=60.0)
    for number in range(64):
        one.state.labels.set("digits", f"l{number}", 1, tell())
    with pytest.raises(InvalidRequest, match="are 65; there may be 64"):
        await one.traffic.set_label("digits", "stable", 1, "")
    await one.traffic.set_label("digits", "l7", 2, "")
    assert one.traffic.labels("digits")["l7"] == 2


async def test_labels_that_are_kept_go_before_those_in_files(server) -> None:
    one = server()
    one.traffic.labels_in_files("digits", {"stable": 1, "blue": 1})
    await one.traffic.set_label("digits", "stable", 2, "")
    assert one.traffic.labels("digits") == {"blue": 1, "stable": 2}
    one.traffic.labels_in_files("digits", {"stable": 3})
    assert one.traffic.labels("digits") == {"stable": 2}
    await one.traffic.set_route("digits", pinned("stable"), None, "")
    await one.traffic.delete_label("digits", "stable", "")  # the one in the file steps in
    assert one.served.version() == 3
    with pytest.raises(NotFound, match=r"it stands in model\.toml, so remove it there"):
        await one.traffic.delete_label("digits", "stable", "")
    one.traffic.labels_in_files("digits", {})
    with pytest.raises(NotFound, match=r"no label 'stable' of 'digits' is set$"):
        await one.traffic.delete_label("digits", "stable", "")


async def test_a_model_that_goes_and_comes_has_its_labels_again(server) -> None:
    one = server()
    await one.traffic.set_label("digits", "stable", 2, "")
    one.served.table = one.served.table.without_model("digits")
    assert one.served.table.names() == []
    one.served.table = one.served.table.with_versions("digits", [2, 5])
    assert one.served.version(asked="stable") == 2


async def test_without_a_state_nothing_can_be_set_and_the_cure_is_told() -> None:
    served = Served()
    traffic = Traffic(served)
    attempts = (
        traffic.set_route("digits", pinned(3), None, ""),
        traffic.delete_route("digits", None, ""),
        traffic.set_label("digits", "stable", 3, ""),
        traffic.delete_label("digits", "stable", ""),
    )
    for attempt in attempts:
        with pytest.raises(InvalidRequest, match=r"start it with --state-dir FOLDER"):
            await attempt
    traffic.labels_in_files("digits", {"stable": 2})
    assert (traffic.routes(), traffic.labels("digits")) == ([], {"stable": 2})
    assert served.version(asked="stable") == 2
    with pytest.raises(PeltonError, match="unknown model"):
        traffic.labels("lab")
