"""The real `tritonclient`, blocking and asyncio: health, metadata, and tensors of every kind."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.http import InferRequestedOutput
from tritonclient.utils import InferenceServerException

import pelton
from e2e.triton_calls import assert_same, tensor_of
from pelton.tensors import DATATYPES
from support_server import matmul_weights

pytestmark = [
    # aiohttp's, and about the client: it warns of big bodies, and of the answers that the client
    # does not read to the end.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
]

SAMPLE = Path(__file__).parents[2] / "examples" / "digits" / "sample.json"

VALUES: dict[str, np.ndarray] = {
    "BOOL": np.array([True, False, True]),
    **{
        name: np.array([np.iinfo(dtype).min, 0, 7, np.iinfo(dtype).max], dtype)
        for name, dtype in (
            ("UINT8", "u1"),
            ("UINT16", "u2"),
            ("UINT32", "u4"),
            ("UINT64", "u8"),
            ("INT8", "i1"),
            ("INT16", "i2"),
            ("INT32", "i4"),
            ("INT64", "i8"),
        )
    },
    "FP16": np.array([0.0, -1.5, 65504, np.inf, np.nan], "f2"),
    "FP32": np.array([0.1, -1.5, 3.4028235e38, 1e-45], "f4"),
    "FP64": np.array([0.1, -1.5, 1.7976931348623157e308, 5e-324], "f8"),
    "BF16": np.array([0.1, -1.5, 3.3895314e38, np.inf], ml_dtypes.bfloat16),
    "BYTES": np.array([b"plain", "grüß dich 你好".encode(), b"", b"tail\0\0"], np.object_),
}
"""A tensor of each datatype, with the ends of its range."""

NOT_TEXT = np.array([b"\xff\xfe\x00", bytes(range(256)), b""], np.object_)


# -- health and metadata ---------------------------------------------------------------------------


async def test_health(triton: Any) -> None:
    assert await triton.is_server_live() is True
    assert await triton.is_server_ready() is True
    assert await triton.is_model_ready("matmul") is True
    assert await triton.is_model_ready("matmul", "1") is True
    assert await triton.is_model_ready("matmul", "2") is False
    assert await triton.is_model_ready("nobody") is False
    gc.collect()  # what aiohttp warns of shall come now, while it is not listened to


async def test_server_metadata(triton: Any) -> None:
    told = await triton.get_server_metadata()
    assert told["name"] == "pelton"
    assert told["version"] == pelton.__version__
    assert set(told["extensions"]) == {
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "parameters",
    }


async def test_model_metadata(triton: Any) -> None:
    wanted = {
        "name": "matmul",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 8]}],
    }
    assert await triton.get_model_metadata("matmul") == wanted
    assert await triton.get_model_metadata("matmul", "1") == wanted


async def test_model_config(triton: Any) -> None:
    told = await triton.get_model_config("matmul", "1")
    assert told["name"] == "matmul"
    assert told["max_batch_size"] == 0
    assert told["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 64]}]
    assert told["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 8]}]
    assert (await triton.get_model_config("echo_bytes"))["input"][0]["data_type"] == "TYPE_STRING"


async def test_names_are_quoted(triton: Any) -> None:
    for name in ("no such/model", "a%2fb", "ein Modell", "模型", "?", "#"):
        assert await triton.is_model_ready(name) is False
        with pytest.raises(InferenceServerException) as refused:
            await triton.get_model_metadata(name)
        assert refused.value.status() == "404"
    gc.collect()


# -- tensors ---------------------------------------------------------------------------------------


def _ways() -> list[Any]:
    return [
        pytest.param(name, given, wanted, id=f"{name}-{given}-{wanted}")
        for name, row in DATATYPES.items()
        for given in ("binary", "JSON")
        for wanted in ("binary", "JSON", "default")
        if row.in_json or (given == "binary" and wanted != "JSON")
    ]


@pytest.mark.parametrize(("name", "given", "wanted"), _ways())
async def test_every_datatype_both_ways(triton: Any, name: str, given: str, wanted: str) -> None:
    values = VALUES[name]
    outputs = None
    if wanted != "default":
        outputs = [InferRequestedOutput("y", binary_data=wanted == "binary")]
    result = await triton.infer(
        f"echo_{name.lower()}",
        [tensor_of("x", values, name, binary=given == "binary")],
        outputs=outputs,
    )
    said = result.get_output("y")
    assert said["datatype"] == name
    assert ("data" in said) == (wanted == "JSON")
    assert ("parameters" in said) == (wanted != "JSON")
    assert_same(result.as_numpy("y"), values)


async def test_bytes_that_are_no_text(triton: Any) -> None:
    inputs = [tensor_of("value", NOT_TEXT, "BYTES")]
    result = await triton.infer("plain", inputs)
    assert_same(result.as_numpy("output"), NOT_TEXT)
    with pytest.raises(InferenceServerException, match="not UTF-8 text") as refused:
        await triton.infer(
            "plain", inputs, outputs=[InferRequestedOutput("output", binary_data=False)]
        )
    assert refused.value.status() == "400"
    # The strings of ONNX are text; its runtime would give something else back.
    with pytest.raises(InferenceServerException, match="not UTF-8 text") as refused:
        await triton.infer("echo_bytes", [tensor_of("x", NOT_TEXT, "BYTES")])
    assert refused.value.status() == "400"


async def test_floats_without_a_number_as_json(triton: Any) -> None:
    values = np.array([np.nan, np.inf, -np.inf], "f4")
    result = await triton.infer(
        "echo_fp32",
        [tensor_of("x", values, "FP32")],
        outputs=[InferRequestedOutput("y", binary_data=False)],
    )
    assert result.get_output("y")["data"] == ["NaN", "Infinity", "-Infinity"]
    # numpy reads these names, and with it the client.
    assert np.array_equal(result.as_numpy("y"), values, equal_nan=True)


@pytest.mark.parametrize("name", DATATYPES)
async def test_zero_elements(triton: Any, name: str) -> None:
    nothing = VALUES[name][:0]
    for binary in (True, False):
        if not binary and not DATATYPES[name].in_json:
            continue
        result = await triton.infer(
            f"echo_{name.lower()}",
            [tensor_of("x", nothing, name, binary=binary)],
            outputs=[InferRequestedOutput("y", binary_data=binary)],
        )
        assert result.as_numpy("y").shape == (0,)


async def test_inputs_and_outputs_of_both_kinds_in_one_request(triton: Any) -> None:
    first, second = np.array([1.5, 2.5], "f4"), np.array([3.5], "f4")
    for binary_in in ((True, False), (False, True)):
        for binary_out in ((True, False), (False, True)):
            result = await triton.infer(
                "pair",
                [
                    tensor_of(f"x{index}", array, "FP32", binary)
                    for index, (array, binary) in enumerate(
                        zip((first, second), binary_in, strict=True)
                    )
                ],
                outputs=[
                    InferRequestedOutput(f"y{index}", binary_data=binary)
                    for index, binary in enumerate(binary_out)
                ],
            )
            assert ["data" in each for each in result.get_response()["outputs"]] == [
                not binary for binary in binary_out
            ]
            assert_same(result.as_numpy("y0"), first)
            assert_same(result.as_numpy("y1"), second)


async def test_only_the_outputs_that_are_wanted(triton: Any) -> None:
    inputs = [tensor_of(f"x{i}", np.array([i], "f4"), "FP32") for i in range(2)]
    result = await triton.infer("pair", inputs, outputs=[InferRequestedOutput("y1")])
    assert result.as_numpy("y0") is None
    assert_same(result.as_numpy("y1"), np.array([1], "f4"))


async def test_inputs_in_another_order(triton: Any) -> None:
    inputs = [tensor_of(f"x{i}", np.array([i] * (i + 1), "f4"), "FP32") for i in (1, 0)]
    result = await triton.infer("pair", inputs)
    assert_same(result.as_numpy("y0"), np.array([0], "f4"))
    assert_same(result.as_numpy("y1"), np.array([1, 1], "f4"))


async def test_a_product_of_matrices(triton: Any) -> None:
    x = np.arange(3 * 64, dtype="f4").reshape(3, 64) % 17
    result = await triton.infer("matmul", [tensor_of("x", x, "FP32")])
    assert_same(result.as_numpy("y"), x @ matmul_weights())
    result = await triton.infer("matmul", [tensor_of("x", x, "FP32")], model_version="1")
    assert result.get_response()["model_version"] == "1"


@pytest.mark.parametrize("binary", [True, False])
async def test_classification_with_labels(triton: Any, binary: bool) -> None:
    sample = json.loads(SAMPLE.read_text())["inputs"][0]
    image = np.array(sample["data"], np.uint8).reshape(sample["shape"])
    batch = np.concatenate([image, image])
    result = await triton.infer(
        "digits",
        [tensor_of("image", batch, "UINT8", binary)],
        outputs=[InferRequestedOutput("probabilities", binary_data=binary, class_count=3)],
    )
    best = result.as_numpy("probabilities")
    assert best.shape == (2, 3)
    plain = await triton.infer("digits", [tensor_of("image", batch, "UINT8", binary)])
    scores = plain.as_numpy("probabilities")
    for row, order in zip(best, np.argsort(-scores, axis=1, kind="stable"), strict=True):
        texts = [each.decode() if isinstance(each, bytes) else each for each in row]
        values, indices, labels = zip(*(text.split(":") for text in texts), strict=True)
        assert [int(index) for index in indices] == order[:3].tolist()
        assert [np.float32(value) for value in values] == scores[0][order[:3]].tolist()
        assert all(labels)


async def test_classification_without_labels(triton: Any) -> None:
    x = np.zeros((1, 64), "f4")
    result = await triton.infer(
        "matmul",
        [tensor_of("x", x, "FP32")],
        outputs=[InferRequestedOutput("y", class_count=2)],
    )
    assert result.as_numpy("y").tolist() == [[b"0.0:0", b"0.0:1"]]
