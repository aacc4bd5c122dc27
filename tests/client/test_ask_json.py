"""Endpoints that have no method of their own are asked in JSON."""

from __future__ import annotations

import pytest

from client.scripted_peer import Answer, ScriptedPeer, json_reply
from pelton.errors import Conflict, ConnectionFailed, InvalidRequest, SettingsError


def test_a_question_and_a_change(make_client) -> None:
    with ScriptedPeer([Answer([json_reply({"a": 1})])] * 1 + [Answer([json_reply({})])]) as peer:
        client = make_client(peer.url)
        assert client.ask_json("GET", "/v2/routes?x=1") == {"a": 1}
        assert client.ask_json("PUT", "/v2/x", {"ü": [1]}, headers={"If-Match": "7"}) == {}
    question, change = peer.received
    assert (question.line, question.body) == ("GET /v2/routes?x=1 HTTP/1.1", b"")
    assert "content-length" not in question.headers
    assert change.line == "PUT /v2/x HTTP/1.1"
    assert change.headers["if-match"] == "7"
    assert change.headers["content-type"] == "application/json"
    assert change.body == b'{"\\u00fc": [1]}'


def test_a_change_is_not_repeated_and_a_question_is(make_client) -> None:
    lost = Answer([], then="close")
    with ScriptedPeer([lost], [lost]) as peer:
        with pytest.raises(ConnectionFailed):
            make_client(peer.url).ask_json("DELETE", "/v2/x")
        assert len(peer.received) == 1
    with ScriptedPeer([lost], [Answer([json_reply({"b": 2})])]) as peer:
        assert make_client(peer.url).ask_json("GET", "/v2/x") == {"b": 2}


def test_what_the_server_refuses_is_raised(make_client) -> None:
    refusal = json_reply({"error": "at revision 8", "code": "conflict"}, "409 Conflict")
    answers = [Answer([refusal])]
    with ScriptedPeer(answers) as peer, pytest.raises(Conflict, match="at revision 8"):
        make_client(peer.url).ask_json("PUT", "/v2/x", {})


@pytest.mark.parametrize("path", ["v2", "/a b", "/a\r\nX: y", "/ü", ""])
def test_a_path_cannot_end_the_line(make_client, path: str) -> None:
    with ScriptedPeer([]) as peer, pytest.raises(InvalidRequest, match="is no path of a URL"):
        make_client(peer.url).ask_json("GET", path)


def test_a_header_cannot_end_the_line(make_client) -> None:
    with ScriptedPeer([]) as peer, pytest.raises(SettingsError, match="holds a character"):
        make_client(peer.url).ask_json("GET", "/", headers={"If-Match": "7\r\nX: y"})
