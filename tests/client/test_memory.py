"""Big arrays are not copied: they leave from their own memory and arrive in their final one."""

from __future__ import annotations

import numpy as np
import pytest

from client.scripted_peer import Answer, ScriptedPeer, infer_reply
from pelton.client import stream

IMAGE = np.random.default_rng(1).integers(0, 256, (4, 1080, 1920), np.uint8)
OTHER = np.random.default_rng(2).standard_normal((600, 500))


class Witness:
    """Remembers what memory a plain socket was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[np.ndarray] = []
        self.filled: list[np.ndarray] = []
        send, receive = stream.PlainStream.send, stream.PlainStream.receive

        def watched_send(plain, pieces):
            taken = send(plain, pieces)
            if isinstance(taken, int):
                self.sent += [np.frombuffer(piece, np.uint8) for piece in pieces]
            return taken

        def watched_receive(plain, buffer):
            self.filled.append(np.frombuffer(buffer, np.uint8))
            return receive(plain, buffer)

        monkeypatch.setattr(stream.PlainStream, "send", watched_send)
        monkeypatch.setattr(stream.PlainStream, "receive", watched_receive)


@pytest.fixture
def witness(monkeypatch):
    return Witness(monkeypatch)


def test_arrays_are_sent_from_their_own_memory(make_client, witness):
    answer = infer_reply(("y", "UINT8", [1], b"1"))
    with ScriptedPeer([Answer([answer])]) as peer:
        make_client(peer.url).infer("m", {"image": IMAGE, "other": OTHER})
    big = [piece for piece in witness.sent if len(piece) > 10_000]
    assert big
    for piece in big:
        assert np.shares_memory(piece, IMAGE) or np.shares_memory(piece, OTHER)
    assert any(np.shares_memory(piece, OTHER) for piece in big)


@pytest.mark.parametrize("request_id", ["", "1", "12", "123", "1234"])
def test_arrays_are_received_into_their_final_memory(make_client, witness, request_id):
    answer = infer_reply(
        ("image", "UINT8", list(IMAGE.shape), IMAGE.tobytes()),
        ("other", "FP64", list(OTHER.shape), OTHER.tobytes()),
        id=request_id,
    )
    with ScriptedPeer([Answer([answer])]) as peer:
        outputs = make_client(peer.url).infer("m", {"x": OTHER[0]}).outputs
    np.testing.assert_array_equal(outputs["image"], IMAGE)
    np.testing.assert_array_equal(outputs["other"], OTHER)
    last = witness.filled[-1]
    assert np.shares_memory(last, outputs["other"])
    assert any(np.shares_memory(each, outputs["image"]) for each in witness.filled)
    # Both are views of one block: the one that the socket wrote.
    start = outputs["image"].__array_interface__["data"][0]
    assert outputs["other"].__array_interface__["data"][0] == start + IMAGE.nbytes


def test_a_pickled_observation_is_sent_from_its_own_memory(make_client, witness):
    with ScriptedPeer([Answer([b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"])]) as peer:
        client = make_client(peer.url)
        with pytest.raises(Exception, match="500"):
            client.predict({"image": IMAGE, "instruction": "look"})
    big = [piece for piece in witness.sent if len(piece) > 10_000]
    assert big
    assert all(np.shares_memory(piece, IMAGE) for piece in big)
