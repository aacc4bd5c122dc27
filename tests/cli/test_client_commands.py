"""`pelton infer`, `pelton health` and `pelton models`, as they are typed."""

from __future__ import annotations

import json
import socket

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from client.scripted_peer import Answer, ScriptedPeer, infer_reply, json_reply, reply
from pelton.cli import health, infer, models
from pelton.wire import pickled
from pelton.wire.limits import Limits

app = typer.Typer(pretty_exceptions_enable=False)
app.command("infer")(infer.command)
app.command("health")(health.command)
app.command("models")(models.command)

ADDER = {
    "name": "adder",
    "versions": ["3"],
    "platform": "onnxruntime_onnx",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1]},
        {"name": "n", "datatype": "UINT8", "shape": [2, 2]},
        {"name": "who", "datatype": "BYTES", "shape": []},
        {"name": "b", "datatype": "BF16", "shape": [-1]},
    ],
    "outputs": [{"name": "sum", "datatype": "FP32", "shape": [-1]}],
}
ANYTHING = {"name": "policy", "versions": ["1"], "platform": "python", "inputs": [], "outputs": []}
SUM = np.array([0.5, 2.5], np.float32)
ANSWER = infer_reply(
    ("sum", "FP32", [2], SUM.tobytes()), ("name", "BYTES", [1], b"\3\0\0\0\xff\x1bb")
)
HUGE_NPY = b"\x93NUMPY\x01\x00\x60\x00" + (
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904,)}".ljust(95) + b"\n"
)
STYLE = pickled.PickleStyle(protocol=5, old_numpy=False, out_of_band=True)


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=typed)


def infer_at(peer: ScriptedPeer, *arguments: str, typed: str | None = None) -> Result:
    return run("infer", *arguments, "--url", peer.url, typed=typed)


def adder(*more: bytes) -> ScriptedPeer:
    return ScriptedPeer([Answer([each]) for each in (json_reply(ADDER), *more)])


def flat(result: Result) -> str:
    """What was said, without the frames and line breaks of the terminal."""
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture
def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_infer_types_what_was_written_and_prints_what_came(tmp_path):
    np.save(tmp_path / "n.npy", np.array([[1, 2], [3, 4]], np.uint8))
    with adder(ANSWER) as peer:
        result = infer_at(
            peer,
            "adder",
            *("--input", "x=[1, 2.5]", "-i", "who=the red = cube", "-i", "b=[1.0]"),
            *("--npy", f"n={tmp_path / 'n.npy'}"),
            *("--output", "sum", "-o", "name", "--version", "3"),
        )
    assert result.exit_code == 0, result.stderr
    assert peer.lines == [
        "GET /v2/models/adder/versions/3 HTTP/1.1",
        "POST /v2/models/adder/versions/3/infer HTTP/1.1",
    ]
    header, tensors = peer.received[1].tensors
    assert [(one["name"], one["datatype"], one["shape"]) for one in header["inputs"]] == [
        ("x", "FP32", [2]),
        ("who", "BYTES", []),
        ("b", "BF16", [1]),
        ("n", "UINT8", [2, 2]),
    ]
    assert tensors == (
        np.array([1, 2.5], np.float32).tobytes()
        + b"\x0e\0\0\0the red = cube"
        + b"\x80\x3f"
        + bytes([1, 2, 3, 4])
    )
    assert [one["name"] for one in header["outputs"]] == ["sum", "name"]
    assert result.stdout.splitlines() == [
        "m, version 1",
        "sum  FP32 [2]  min 0.5  max 2.5  mean 1.5",
        "  [0.5 2.5]",
        "name  BYTES [1]",
        "  [b'\\xff\\x1bb']",
    ]


def test_infer_answers_programs_in_json():
    with adder(ANSWER) as peer:
        result = infer_at(peer, "adder", "-i", "x=[1]", "--format", "json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["model_version"] == "1"
    assert said["outputs"][0] == {
        "name": "sum",
        "datatype": "FP32",
        "shape": [2],
        "data": [0.5, 2.5],
    }
    assert said["outputs"][1]["data"] == ["\\xff\x1bb"]


@pytest.mark.parametrize(
    "written",
    [
        {"x": [1, 2], "n": [[1, 2], [3, 4]]},
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]},
                {"name": "n", "datatype": "UINT8", "shape": [2, 2], "data": [1, 2, 3, 4]},
            ],
            "outputs": [{"name": "sum"}],
        },
    ],
    ids=["by name", "as the protocol writes it"],
)
@pytest.mark.parametrize("place", ["file", "-"])
def test_infer_reads_json(tmp_path, written, place):
    file = tmp_path / "inputs.json"
    file.write_text(json.dumps(written), "utf-8")
    with adder(ANSWER) as peer:
        if place == "-":
            result = infer_at(peer, "adder", "--json", "-", typed=json.dumps(written))
        else:
            result = infer_at(peer, "adder", "--json", str(file))
    assert result.exit_code == 0, result.stderr
    header, tensors = peer.received[1].tensors
    assert [(one["name"], one["shape"]) for one in header["inputs"]] == [("x", [2]), ("n", [2, 2])]
    assert tensors == np.array([1, 2], np.float32).tobytes() + bytes([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("written", "shape", "raw"),
    [
        ("x=2", [1], np.float32(2).tobytes()),
        ("x=[]", [0], b""),
        ('x=["NaN"]', [1], np.float32("nan").tobytes()),
        ("who=5", [], b"\1\0\0\x005"),
        ('who="5"', [], b"\1\0\0\x005"),
        ('who=["a","bc"]', [2], b"\1\0\0\0a\2\0\0\0bc"),
        ("who=", [], b"\0\0\0\0"),
    ],
)
def test_infer_understands_values_as_the_model_does(written, shape, raw):
    with adder(ANSWER) as peer:
        result = infer_at(peer, "adder", "--input", written)
    assert result.exit_code == 0, result.stderr
    header, tensors = peer.received[1].tensors
    assert header["inputs"][0]["shape"] == shape
    assert tensors == raw


@pytest.mark.parametrize("form", ["text", "json"])
def test_infer_hands_any_value_to_a_model_that_takes_any(tmp_path, form):
    np.save(tmp_path / "i.npy", np.arange(4, dtype=np.int16))
    output = {"action": np.array([1.5]), "note": "ok\x1b"}
    answer = reply(b"".join(pickled.encode({"status": "ok", "output": output}, STYLE)))
    with ScriptedPeer([Answer([json_reply(ANYTHING)]), Answer([answer])]) as peer:
        result = infer_at(
            peer,
            *("policy", "-i", "instruction=look", "-i", 'more={"a":[1,null]}'),
            *("--npy", f"image={tmp_path / 'i.npy'}", "--format", form),
        )
    assert result.exit_code == 0, result.stderr
    assert peer.lines[1] == "POST /infer?model=policy HTTP/1.1"
    sent, _ = pickled.decode(peer.received[1].body, Limits())
    assert sent["instruction"] == "look"
    assert sent["more"] == {"a": [1, None]}
    np.testing.assert_array_equal(sent["image"], np.arange(4, dtype=np.int16))
    if form == "text":
        assert result.stdout == "action  FP64 [1]\n  [1.5]\nnote  'ok\\x1b'\n"
    else:
        assert json.loads(result.stdout) == {"output": {"action": [1.5], "note": "ok\x1b"}}


WRONG = {
    "no equals sign": (["--input", "x"], "'x' is not of the form NAME=..."),
    "no name": (["--npy", "=file"], "is not of the form NAME=..."),
    "unknown input": (["--input", "y=1"], "the model has no input 'y'; its inputs are x (FP32)"),
    "twice": (["--input", "x=1", "--input", "x=2"], "input 'x' is given twice"),
    "wrong kind": (["--input", "x=[true]"], "input 'x'"),
    "out of range": (["--input", "n=[[1,2],[3,300]]"], "300 is out of the range of UINT8"),
    "no number": (["--input", "n=hello"], "input 'n'"),
    "ragged": (["--input", "n=[[1],[2,3]]"], "unequal length"),
    "no such file": (["--npy", "n=no/such.npy"], "cannot read no/such.npy: No such file"),
    "no such JSON": (["--json", "no/such.json"], "cannot read no/such.json: No such file"),
    "format": (["--format", "xml"], "'xml' is not one of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_and_exits_with_2(case):
    arguments, said = WRONG[case]
    with adder() as peer:
        result = infer_at(peer, "adder", *arguments)
    assert result.exit_code == 2
    assert said in flat(result)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "content", "option"),
    [
        ("text.npy", b"hello", "--npy"),
        ("empty.npy", b"", "--npy"),
        ("broken.npz", b"PK\x03\x04 and no more", "--npy"),
        ("huge.npy", HUGE_NPY, "--npy"),
        ("text.json", b"{", "--json"),
        ("list.json", b"[1]", "--json"),
        ("deep.json", b"[" * 500 + b"]" * 500, "--json"),
        ("entry.json", b'{"inputs":[{"name":"x"}]}', "--json"),
        ("shape.json", b'{"inputs":[{"name":"x","shape":[3],"data":[1]}]}', "--json"),
    ],
)
def test_a_file_that_cannot_be_read_exits_with_2(tmp_path, name, content, option):
    file = tmp_path / name
    file.write_bytes(content)
    value = f"n={file}" if option == "--npy" else str(file)
    with adder() as peer:
        result = infer_at(peer, "adder", option, value)
    assert result.exit_code == 2
    assert option in flat(result)
    assert "Traceback" not in result.output


def test_a_pickle_in_a_npy_file_is_not_loaded(tmp_path):
    class Touch:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    np.save(tmp_path / "bad.npy", np.array([Touch()], object), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=SUM, b=SUM)
    for file in ("bad.npy", "two.npz"):
        with adder() as peer:
            result = infer_at(peer, "adder", "--npy", f"n={tmp_path / file}")
        assert result.exit_code == 2
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("command", [["infer", "adder"], ["health"], ["models"]])
def test_nobody_there_is_one_sentence(command, nowhere):
    result = run(*command, "--url", nowhere)
    assert result.exit_code == 1
    assert result.stderr == (
        f"pelton {command[0]}: cannot connect to {nowhere}: connection refused; "
        "is the server running there?\n"
    )
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "robot"], "'robot' does not start with http://"),
        (["--timeout", "soon"], "--timeout is 'soon'; it has to be a duration"),
        (["--timeout", "0s"], "must be a positive number"),
    ],
)
@pytest.mark.parametrize("command", [["infer", "adder"], ["health"], ["models"]])
def test_a_wrong_address_or_duration_exits_with_2(command, options, said):
    result = run(*command, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_refusal_is_one_sentence():
    said = {"error": "unknown model 'x'; served are: m", "code": "not_found", "request_id": "r"}
    with ScriptedPeer([Answer([json_reply(said, "404 Not Found")])]) as peer:
        result = infer_at(peer, "x")
    assert result.exit_code == 1
    assert result.stderr == "pelton infer: unknown model 'x'; served are: m\n"


def test_a_server_cannot_steer_the_terminal():
    evil = "a\x1b[2J\r\nb\u202e ö"
    safe = "a\\x1b[2J\\r\\nb\\u202e ö"
    said = {"error": evil, "code": "not_found", "request_id": "r"}
    spec = {"name": evil, "datatype": "FP32", "shape": [1]}
    row = ADDER | {"name": evil, "state": evil, "platform": evil, "versions": [evil]}
    row |= {"inputs": [spec], "outputs": [spec]}
    tensor = (evil, "FP32", [1], bytes(4))
    with ScriptedPeer([Answer([json_reply(said, "404 Not Found")])]) as peer:
        assert infer_at(peer, "x").stderr == f"pelton infer: {safe}\n"
    with ScriptedPeer([Answer([json_reply(ADDER)]), Answer([infer_reply(tensor)])]) as peer:
        assert infer_at(peer, "adder").stdout == f"m, version 1\n{safe}  FP32 [1]\n  [0.]\n"
    with ScriptedPeer([Answer([json_reply({"models": [row]})])] * 3) as peer:
        told = run("health", "--url", peer.url).stdout
        assert not {"\x1b", "\u202e", "\r"} & set(told)


def test_a_slow_server_is_not_waited_for_longer_than_was_said():
    with ScriptedPeer([Answer(holds=True)]) as peer:
        result = run("models", "--url", peer.url, "--timeout", "200ms")
    assert result.exit_code == 1
    assert "time ran out while waiting for the answer" in result.stderr


@pytest.mark.parametrize(("status", "word", "code"), [("200 OK", "yes", 0), ("503 No", "no", 1)])
def test_health_tells_readiness_in_words_and_by_exit_code(status, word, code):
    rows = {"models": [ADDER | {"state": "READY"}, ANYTHING | {"state": "LOADING"}]}
    answers = (json_reply({}), json_reply({}, status), json_reply(rows))
    with ScriptedPeer([Answer([each]) for each in answers]) as peer:
        result = run("health", "--url", peer.url)
    assert result.exit_code == code
    assert result.stdout.splitlines() == [
        "live    yes",
        f"ready   {word}",
        "model   adder 3 READY",
        "model   policy 1 LOADING",
    ]


@pytest.mark.parametrize("command", ["infer", "health", "models"])
def test_help_teaches_by_examples(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"pelton {command}" in result.stdout
