"""The line that the log offers for pasting."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from pelton.cli.first_request import LONGEST_DATA, curl_line
from pelton.specs import ModelMetadata, TensorSpec

URL = "http://127.0.0.1:50000"


def model(*inputs: TensorSpec, name: str = "m") -> ModelMetadata:
    return ModelMetadata(name, "1", "test", inputs, ())


def pasted(line: str) -> list[str]:
    """Return the arguments that a shell hands to curl when the line is pasted."""
    script = f"curl() {{ printf '%s\\0' \"$@\"; }}\n{line}\n"
    shell = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    return shell.stdout.split("\0")[:-1]


def taken_apart(line: str) -> tuple[str, dict[str, Any]]:
    """Return the address and the JSON that curl would be given."""
    quiet, address, option, body = pasted(line)
    assert (quiet, option) == ("-s", "-d")
    return address, json.loads(body)


def test_a_line_asks_the_model_for_zeros() -> None:
    line = curl_line(URL, [model(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("n", "INT64", ()))])
    assert line.startswith("curl ")
    assert "\n" not in line
    assert taken_apart(line) == (
        "http://127.0.0.1:50000/v2/models/m/infer",
        {
            "inputs": [
                {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 0, 0]},
                {"name": "n", "shape": [], "datatype": "INT64", "data": [0]},
            ]
        },
    )


@pytest.mark.parametrize(
    ("datatype", "zero"), [("BYTES", ""), ("BOOL", False), ("UINT8", 0), ("FP64", 0)]
)
def test_a_zero_of_each_kind(datatype: str, zero: object) -> None:
    _, body = taken_apart(curl_line(URL, [model(TensorSpec("x", datatype, (2,)))]))
    (tensor,) = body["inputs"]
    assert tensor == {"name": "x", "shape": [2], "datatype": datatype, "data": [zero, zero]}
    assert type(tensor["data"][0]) is type(zero)


@pytest.mark.parametrize(
    "unfit",
    [
        model(TensorSpec("x", "UINT8", (480, 640, 3)), name="big"),
        model(TensorSpec("x", "UINT8", (LONGEST_DATA + 1,)), name="big"),
        model(TensorSpec("x", "FP16", (1,)), name="half"),
        model(TensorSpec("x", "BF16", (1,)), name="half"),
        model(TensorSpec("a", "FP32", (1,)), TensorSpec("x", "FP16", (1,)), name="half"),
        model(name="objects"),
    ],
    ids=["image", "one too many", "FP16", "BF16", "one of two", "objects"],
)
def test_a_model_that_fits_no_line_is_passed_over(unfit: ModelMetadata) -> None:
    assert curl_line(URL, [unfit]) == f"curl -s {URL}/health"
    fits = model(TensorSpec("x", "FP32", (LONGEST_DATA,)), name="fits")
    address, body = taken_apart(curl_line(URL, [unfit, fits]))
    assert address == f"{URL}/v2/models/fits/infer"
    assert len(body["inputs"][0]["data"]) == LONGEST_DATA


def test_no_model_no_inference() -> None:
    assert curl_line(URL, []) == f"curl -s {URL}/health"


@pytest.mark.parametrize(
    "name",
    [
        "images:0",
        "onnx::Gemm_0",
        "größe",
        'a"b',
        "a\\b",
        "$(echo injected)",
        "`echo injected`",
        "it's",
        "'; echo injected; '",
    ],
)
def test_whatever_an_inputs_name_a_shell_hands_it_on_unharmed(name: str) -> None:
    """An ONNX file from a stranger names its inputs; the line is made to be pasted."""
    _, body = taken_apart(curl_line(URL, [model(TensorSpec(name, "FP32", (1,)))]))
    assert body["inputs"][0]["name"] == name


def test_a_key_is_named_where_one_is_wanted() -> None:
    fits = model(TensorSpec("x", "FP32", (1,)))
    line = curl_line(URL, [fits], with_key=True)
    assert line.startswith(f'curl -s -H "Authorization: Bearer $PELTON_API_KEY" {URL}/v2/models/')
    assert "Authorization" not in curl_line(URL, [], with_key=True)  # health is for everybody
