"""Big tensors lie in memory that client and server share, and nothing of it is left behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from client.both_clients import MakeClient
from client.sharing_peer import SharingPeer
from pelton.client import Bounds, Client, Retries, named_memory
from pelton.client.blocks import MAX_BLOCKS, SHARED_FROM_BYTES
from pelton.errors import ConnectionFailed, InvalidRequest, PeltonError, SettingsError

IMAGE = np.random.default_rng(3).integers(0, 256, (300, 400, 3), np.uint8)
REGION, OFFSET = "shared_memory_region", "shared_memory_offset"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[SharingPeer]:
    with SharingPeer(tmp_path) as running:
        yield running


@pytest.fixture
def client(peer: SharingPeer, make_client: MakeClient):
    return make_client(peer.url, shared_memory=True)


def objects() -> set[str]:
    """Return the names of the shared memory objects of this process."""
    return {path.name for path in Path("/dev/shm").glob(f"pelton-{os.getpid()}-*")}


def echo(client, array: np.ndarray, **options) -> np.ndarray:
    return client.infer("m", {"x": array}, **options).outputs["y"]


def test_a_big_array_is_copied_once_and_a_small_one_is_sent(peer, client):
    response = client.infer("m", {"x": IMAGE, "x2": IMAGE[0]})
    np.testing.assert_array_equal(response.outputs["y"], IMAGE)
    np.testing.assert_array_equal(response.outputs["y2"], IMAGE[0])
    assert REGION in peer.tensors()["x"]
    assert peer.tensors()["x2"] == {"binary_data_size": IMAGE[0].nbytes}


def test_an_array_of_empty_is_not_copied_and_neither_is_a_part_of_it(peer, client):
    stack = client.empty((4, *IMAGE.shape), np.uint8)
    assert stack.shape == (4, 300, 400, 3)
    stack[2] = IMAGE
    np.testing.assert_array_equal(echo(client, stack[2]), IMAGE)
    (region,) = peer.regions
    told = peer.tensors()["x"]
    assert (told[REGION], told[OFFSET]) == (region, 2 * IMAGE.nbytes)


def test_the_same_two_blocks_are_used_again(peer, client):
    for number in range(5):
        array = IMAGE + np.uint8(number)
        np.testing.assert_array_equal(echo(client, array), array)
    assert len(peer.regions) == 2
    assert peer.count("/register") == 2
    assert len({str(peer.requests[at]) for at in (2, 3, 4)}) == 1


def test_an_answer_comes_through_shared_memory_once_its_size_is_known(peer, client):
    first, second = echo(client, IMAGE), echo(client, IMAGE)
    assert "outputs" not in peer.requests[0]
    (wanted,) = peer.requests[1]["outputs"]
    assert wanted["name"] == "y"
    assert wanted["parameters"][REGION] in peer.regions
    for answer in (first, second):
        np.testing.assert_array_equal(answer, IMAGE)
        assert not answer.flags.writeable


def test_an_answer_stays_as_it_is_while_anybody_holds_it(peer, client):
    echo(client, IMAGE)
    held = [echo(client, IMAGE + np.uint8(number))[10:] for number in range(4)]
    for number, each in enumerate(held):
        np.testing.assert_array_equal(each, (IMAGE + np.uint8(number))[10:])
    regions = {each["outputs"][0]["parameters"][REGION] for each in peer.requests[1:]}
    assert len(regions) == 4
    before = len(peer.regions)
    del held, each
    gc.collect()
    for _ in range(4):
        echo(client, IMAGE)
    assert len(peer.regions) == before


def test_an_answer_outlives_its_client(peer):
    with Client(peer.url, shared_memory=True) as client:
        echo(client, IMAGE)
        answer = echo(client, IMAGE)
    assert peer.regions == {}
    np.testing.assert_array_equal(answer, IMAGE)


def test_a_server_need_not_repeat_where_an_output_lies(peer, client):
    peer.tells_places = False
    echo(client, IMAGE)
    np.testing.assert_array_equal(echo(client, IMAGE), IMAGE)
    assert REGION in peer.requests[1]["outputs"][0]["parameters"]


@pytest.mark.parametrize(
    "laid",
    [IMAGE[::-1], IMAGE[..., ::-1], np.asfortranarray(IMAGE), IMAGE.astype(">i2"), IMAGE > 127],
    ids=["upside down", "other colours", "columns first", "big-endian", "bool"],
)
def test_an_array_may_lie_in_memory_as_it_likes(peer, client, laid):
    answer = echo(client, laid)
    np.testing.assert_array_equal(answer, laid)
    assert REGION in peer.tensors()["x"]
    own = client.empty(laid.shape, laid.dtype)
    own[...] = laid
    np.testing.assert_array_equal(echo(client, own), laid)
    np.testing.assert_array_equal(echo(client, own[::-1]), laid[::-1])


def test_text_and_bfloat16_are_sent_in_the_message(peer, client):
    words = np.array(["a" * 50] * 2000)
    assert echo(client, words)[7] == b"a" * 50
    halves = np.ones(SHARED_FROM_BYTES, np.float32)
    np.testing.assert_array_equal(echo(client, halves, datatypes={"x": "BF16"}), halves)
    assert [REGION in peer.tensors(at)["x"] for at in (0, 1)] == [False, False]


def test_nothing_has_a_name_after_the_server_has_mapped_it(peer, client):
    array = client.empty(IMAGE.shape, np.uint8)
    echo(client, array)
    assert peer.regions
    assert objects() == set()


def test_everything_is_unregistered_at_the_end(peer):
    with Client(peer.url, shared_memory=True) as client:
        held = client.empty(IMAGE.shape, np.uint8)
        echo(client, IMAGE)
        assert len(peer.regions) == 2
    assert peer.regions == {}
    held[...] = 1


def test_a_client_ends_well_after_its_server(tmp_path):
    with SharingPeer(tmp_path) as peer:
        client = Client(peer.url, shared_memory=True, retries=Retries(attempts=1))
        echo(client, IMAGE)
    client.close()
    assert objects() == set()


def test_a_server_that_was_started_anew_gets_the_regions_again(peer, client):
    mine = client.empty(IMAGE.shape, np.uint8)
    mine[...] = IMAGE
    for _ in range(2):
        np.testing.assert_array_equal(echo(client, mine), IMAGE)
    lost = set(peer.regions)
    peer.regions.clear()
    for _ in range(2):
        np.testing.assert_array_equal(echo(client, mine), IMAGE)
    assert peer.regions
    assert not lost & set(peer.regions)


def test_an_answer_that_outgrew_its_place_comes_in_the_message_and_then_in_a_bigger_place(
    peer, client
):
    echo(client, IMAGE)
    peer.grows = 3
    for _ in range(2):
        np.testing.assert_array_equal(echo(client, IMAGE), np.concatenate([IMAGE] * 3))
    small, big = (each["outputs"][0]["parameters"] for each in peer.requests[1:])
    assert small["shared_memory_byte_size"] < 3 * IMAGE.nbytes
    assert big["shared_memory_byte_size"] >= 3 * IMAGE.nbytes
    peer.grows = 1
    np.testing.assert_array_equal(echo(client, IMAGE), IMAGE)
    assert peer.requests[-1]["outputs"][0]["parameters"] == big


def test_a_server_that_refuses_answers_that_outgrew_their_place_is_lent_none(peer, client):
    peer.sends_too_big = False
    echo(client, IMAGE)
    peer.grows = 3
    with pytest.raises(InvalidRequest, match="its place is too small"):
        echo(client, IMAGE)
    assert len(peer.requests) == 2
    for _ in range(2):
        assert echo(client, IMAGE).shape == (900, 400, 3)
    assert "outputs" not in peer.requests[-1]


def test_a_refusal_says_the_cure(peer, client):
    peer.refuses = True
    for ask in (lambda: echo(client, IMAGE), lambda: client.empty(IMAGE.shape)):
        with pytest.raises(SettingsError) as caught:
            ask()
        assert "shared_memory=True" in caught.value.message
        assert "not enabled on this server" in caught.value.message
    assert objects() == set()
    np.testing.assert_array_equal(echo(client, IMAGE[0]), IMAGE[0])


def test_without_room_for_shared_memory_it_is_said(peer, client, monkeypatch):
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room, raising=False)
    with pytest.raises(SettingsError, match=r"no room for .* bytes of shared memory .*--shm-size"):
        client.empty(IMAGE.shape)
    assert objects() == set()


def test_where_a_request_was_given_up_nothing_else_is_put(peer):
    """The model may write its late answer there."""
    with Client(peer.url, shared_memory=True, retries=Retries(attempts=1)) as client:
        echo(client, IMAGE)

        done = threading.Event()

        def late() -> None:
            done.wait(20)

        peer.meanwhile = late
        with pytest.raises(PeltonError, match="time ran out"):
            echo(client, IMAGE, timeout_s=0.05)
        gc.collect()  # the error's traceback
        (given_up,) = peer.requests[-1]["outputs"]
        peer.meanwhile = lambda: None
        answers = [echo(client, IMAGE) for _ in range(2)]
        done.set()
        for at in (-1, -2):
            assert given_up["parameters"][REGION] not in str(peer.requests[at])
            assert REGION in str(peer.requests[at]["outputs"])
        np.testing.assert_array_equal(answers[0], IMAGE)


def test_an_idempotent_call_lends_no_memory_for_its_answer(peer, client):
    echo(client, IMAGE)
    np.testing.assert_array_equal(echo(client, IMAGE, idempotent=True), IMAGE)
    assert "outputs" not in peer.requests[1]


def test_with_too_many_blocks_arrays_are_sent_as_ever(peer, client):
    held = [client.empty(IMAGE.shape, np.uint8) for _ in range(MAX_BLOCKS + 1)]
    assert len(peer.regions) == MAX_BLOCKS
    np.testing.assert_array_equal(echo(client, IMAGE), IMAGE)
    assert REGION not in peer.tensors()["x"]
    held[-1][...] = IMAGE
    np.testing.assert_array_equal(echo(client, held[-1]), IMAGE)
    del held[0]
    larger = np.concatenate([IMAGE, IMAGE])
    np.testing.assert_array_equal(echo(client, larger), larger)
    assert REGION in peer.tensors()["x"]
    assert len(peer.regions) == MAX_BLOCKS


def test_a_client_without_shared_memory_has_ordinary_arrays(peer, make_client):
    client = make_client(peer.url)
    array = client.empty(IMAGE.shape, np.uint8)
    array[...] = IMAGE
    np.testing.assert_array_equal(echo(client, array), IMAGE)
    assert peer.count("register") == 0


def test_threads_share_the_blocks(peer):
    with Client(peer.url, shared_memory=True, bounds=Bounds(max_connections=4)) as client:

        def ask(number: int) -> bool:
            array = IMAGE + np.uint8(number)
            return np.array_equal(echo(client, array), array)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(100)))
        assert len(peer.regions) <= 16


KILLED = """
import os, signal, sys
import numpy as np
from pelton.client import Client

client = Client(sys.argv[1], shared_memory=True)
array = client.empty((1000, 1000), np.uint8)
client.infer("m", {"x": array})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_client_leaves_nothing_and_the_next_one_tidies_the_server(peer, client):
    before = {path.name for path in Path("/dev/shm").glob("pelton-*")}
    killed = subprocess.run([sys.executable, "-c", KILLED, peer.url], timeout=30, check=False)
    assert killed.returncode == -9
    left = set(peer.regions)
    assert len(left) == 1
    assert {path.name for path in Path("/dev/shm").glob("pelton-*")} <= before
    echo(client, IMAGE)
    assert not left & set(peer.regions)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_names_of_dead_clients_are_removed_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(named_memory, "_FOLDER", tmp_path)
    removed: list[str] = []
    monkeypatch.setattr(named_memory, "_unlink", removed.append)
    dead, token = dead_pid(), "0123456789abcdef"
    old, young, living, foreign = (
        f"pelton-{dead}-{token}",
        f"pelton-{dead}-{token[::-1]}",
        f"pelton-{os.getpid()}-{token}",
        f"pelton-{dead}-and-something",
    )
    for name in (old, young, living, foreign):
        (tmp_path / name).write_bytes(b"")
        if name != young:
            os.utime(tmp_path / name, (0, 0))
    named_memory.remove_stale()
    assert removed == [old]


def test_after_a_fork_the_child_has_blocks_of_its_own(peer):
    with Client(peer.url, shared_memory=True) as client:
        echo(client, IMAGE)
        parents = set(peer.regions)
        script = textwrap.dedent(_FORKING)
        done = subprocess.run(
            [sys.executable, "-c", script, peer.url], timeout=60, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert set(peer.regions) == parents


_FORKING = """
import os, sys
import numpy as np
from pelton.client import Client

with Client(sys.argv[1], shared_memory=True) as client:
    mine = client.empty((400, 400), np.uint8)
    mine[...] = 1
    assert client.infer("m", {"x": mine}).outputs["y"].all()
    regions = client._ask(client._calls.regions())
    child = os.fork()
    if not child:
        theirs = np.full((400, 400), 2, np.uint8)
        good = (client.infer("m", {"x": theirs}).outputs["y"] == 2).all() and mine.all()
        client.close()
        os._exit(not good)
    assert os.waitpid(child, 0)[1] == 0
    assert client._ask(client._calls.regions()) == regions
    assert (client.infer("m", {"x": mine}).outputs["y"] == 1).all()
"""


def test_a_lost_connection_is_told(peer, make_client):
    client = make_client(f"{peer.url}.gone", shared_memory=True, retries=Retries(attempts=1))
    with pytest.raises(ConnectionFailed, match=r"cannot connect to unix:.*peer\.sock\.gone"):
        echo(client, IMAGE)


def test_a_region_of_which_the_server_did_not_say_whether_it_mapped_it_is_unregistered(peer):
    with Client(peer.url, shared_memory=True, retries=Retries(attempts=1)) as client:
        peer.hangs_up = True
        with pytest.raises(ConnectionFailed, match="hung up"):
            client.empty(IMAGE.shape, np.uint8)
        assert len(peer.regions) == 1
        assert objects() == set()
        peer.hangs_up = False
        client.empty(IMAGE.shape, np.uint8)
        assert len(peer.regions) == 1
    assert peer.regions == {}
