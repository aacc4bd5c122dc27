"""Inferences of one kind are written once; whatever tells them apart still does."""

from __future__ import annotations

import numpy as np

from client.scripted_peer import Answer, ScriptedPeer, infer_reply

ANSWER = Answer([infer_reply(("y", "UINT8", [1], b"1"))])

A = np.arange(6, dtype=np.int16)
REQUESTS = [
    (("m", {"x": A}), {}),
    (("m", {"x": A + np.int16(1)}), {}),
    (("m", {"x": A.astype(">i2")}), {}),
    (("m", {"x": A[::-1]}), {}),
    (("m", {"x": A.reshape(2, 3)}), {}),
    (("m", {"x": A.reshape(3, 2).T}), {}),
    (("m", {"x": A.view(np.uint16)}), {}),
    (("m", {"x": A.view(np.float16)}), {}),
    (("m", {"z": A}), {}),
    (("m", {"x": A, "z": A}), {}),
    (("m", {"z": A, "x": A}), {}),
    (("n", {"x": A}), {}),
    (("m", {"x": A}), {"version": 1}),
    (("m", {"x": A}), {"outputs": ["y"]}),
    (("m", {"x": A}), {"request_id": "r"}),
    (("m", {"x": A}), {"timeout_s": 9}),
    (("m", {"x": A}), {"priority": 1}),
    (("m", {"x": A}), {"parameters": {"a": 1}}),
    (("m", {"x": A[:0]}), {}),
    (("m", {"x": np.array(["a", "bc"])}), {}),
    (("m", {"x": np.array(["abc", ""])}), {}),
    (("m", {"x": [1, 2]}), {}),
    (("m", {"x": [1.0, 2.0]}), {}),
    (("m", {"x": A.astype(np.float32)}), {"datatypes": {"x": "BF16"}}),
    (("m", {"x": A.astype(np.float32)}), {}),
    (("m", {"x": A > 2}), {}),
]


def test_every_request_is_the_same_whether_others_came_before_it_or_not(make_client):
    alone = []
    for arguments, options in REQUESTS:
        with ScriptedPeer([ANSWER]) as peer:
            make_client(peer.url).infer(*arguments, **options)
        alone.append((peer.received[0], peer.port))
    for order in (REQUESTS * 2, REQUESTS[::-1] * 2):
        with ScriptedPeer([ANSWER] * len(order)) as peer:
            client = make_client(peer.url)
            for arguments, options in order:
                client.infer(*arguments, **options)
        expected = alone * 2 if order[0] is REQUESTS[0] else alone[::-1] * 2
        for got, (wanted, port) in zip(peer.received, expected, strict=True):
            assert got.head.replace(b":%d" % peer.port, b":%d" % port) == wanted.head
            assert got.body == wanted.body


def test_only_so_many_kinds_are_remembered(make_client):
    with ScriptedPeer([ANSWER] * 600) as peer:
        client = make_client(peer.url)
        for size in range(600):
            client.infer("m", {"x": np.zeros(size, np.uint8)})
    assert [len(each.tensors[1]) for each in peer.received[1:]] == list(range(1, 600))
