"""The real `tritonclient`, blocking and asyncio, with its tensors in system shared memory."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from e2e.triton_calls import Sync, assert_same, tensor_of
from pelton.bfloat16 import narrow
from served_models import write_models
from support_server import ServerProcess, matmul_weights

SIZE = 4096


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes shared memory from everybody."""
    folder = write_models(tmp_path_factory.mktemp("sharing"))
    with ServerProcess(folder, "--allow-shared-memory") as server:
        yield server


@pytest.fixture(params=["sync", "aio"])
async def client(request: pytest.FixtureRequest, sharing: ServerProcess) -> AsyncIterator[Any]:
    """Both clients; what they have registered is forgotten at the end."""
    address = f"127.0.0.1:{sharing.port}"
    if request.param == "sync":
        with tritonclient.http.InferenceServerClient(address) as blocking:
            yield Sync(blocking)
            blocking.unregister_system_shared_memory()
    else:
        async with tritonclient.http.aio.InferenceServerClient(address) as asynchronous:
            yield asynchronous
            await asynchronous.unregister_system_shared_memory()


@pytest.fixture
def region() -> Iterator[Any]:
    """A region as the client's own functions make it."""
    key = f"/pelton-test-{secrets.token_hex(6)}"
    made = shm.create_shared_memory_region("region", key, SIZE)
    made.key = key
    yield made
    shm.destroy_shared_memory_region(made)


def from_region(name: str, shape: list[int], datatype: str, size: int, offset: int = 0) -> Any:
    tensor = InferInput(name, shape, datatype)
    tensor.set_shared_memory("region", size, offset)
    return tensor


def to_region(name: str, size: int, offset: int) -> Any:
    output = InferRequestedOutput(name)
    output.set_shared_memory("region", size, offset)
    return output


async def test_regions_are_registered_listed_and_forgotten(client: Any, region: Any) -> None:
    assert "system_shared_memory" in (await client.get_server_metadata())["extensions"]
    assert await client.get_system_shared_memory_status() == []
    await client.register_system_shared_memory("region", region.key, SIZE)
    await client.register_system_shared_memory("zweite Ü", region.key, 64, offset=128)
    first = {"name": "region", "key": region.key, "offset": 0, "byte_size": SIZE}
    second = {"name": "zweite Ü", "key": region.key, "offset": 128, "byte_size": 64}
    assert await client.get_system_shared_memory_status() == [first, second]
    assert await client.get_system_shared_memory_status("zweite Ü") == [second]
    with pytest.raises(InferenceServerException) as refused:
        await client.register_system_shared_memory("region", region.key, SIZE)
    assert refused.value.status() == "400"
    assert "shared memory region 'region' already in manager" in refused.value.message()
    await client.unregister_system_shared_memory("zweite Ü")
    assert await client.get_system_shared_memory_status() == [first]
    with pytest.raises(InferenceServerException) as unknown:
        await client.get_system_shared_memory_status("zweite Ü")
    assert unknown.value.status() == "404"
    await client.unregister_system_shared_memory()
    assert await client.get_system_shared_memory_status() == []


async def test_in_and_out_through_one_region(client: Any, region: Any) -> None:
    rows = np.arange(128, dtype="f4").reshape(2, 64)
    shm.set_shared_memory_region(region, [rows], offset=256)
    await client.register_system_shared_memory("region", region.key, SIZE)
    for _ in range(3):
        rows += 1
        shm.set_shared_memory_region(region, [rows], offset=256)
        result = await client.infer(
            "matmul",
            [from_region("x", [2, 64], "FP32", 512, 256)],
            outputs=[to_region("y", 64, 1024)],
        )
        told = result.get_output("y")
        assert told["shape"] == [2, 8]
        assert told["parameters"] == {
            "shared_memory_region": "region",
            "shared_memory_byte_size": 64,
            "shared_memory_offset": 1024,
        }
        written = shm.get_contents_as_numpy(region, np.float32, [2, 8], offset=1024)
        assert_same(written, rows @ matmul_weights())


async def test_only_one_side_through_a_region(client: Any, region: Any) -> None:
    row = np.ones((1, 64), "f4")
    shm.set_shared_memory_region(region, [row])
    await client.register_system_shared_memory("region", region.key, SIZE)
    result = await client.infer("matmul", [from_region("x", [1, 64], "FP32", 256)])
    assert_same(result.as_numpy("y"), row @ matmul_weights())
    await client.infer(
        "matmul", [tensor_of("x", 2 * row, "FP32")], outputs=[to_region("y", 32, 512)]
    )
    written = shm.get_contents_as_numpy(region, np.float32, [1, 8], offset=512)
    assert_same(written, 2 * row @ matmul_weights())


TENSORS: dict[str, np.ndarray] = {
    "BOOL": np.array([True, False]),
    "UINT8": np.array([0, 255], "u1"),
    "INT64": np.array([-(2**63), 2**63 - 1], "i8"),
    "FP16": np.array([1.5, -np.inf], "f2"),
    "FP64": np.array([0.1, np.nan], "f8"),
}


@pytest.mark.parametrize("datatype", TENSORS)
async def test_datatypes(client: Any, region: Any, datatype: str) -> None:
    tensor = TENSORS[datatype]
    shm.set_shared_memory_region(region, [tensor])
    await client.register_system_shared_memory("region", region.key, SIZE)
    await client.infer(
        f"echo_{datatype.lower()}",
        [from_region("x", [2], datatype, tensor.nbytes)],
        outputs=[to_region("y", tensor.nbytes, 64)],
    )
    assert_same(shm.get_contents_as_numpy(region, tensor.dtype, [2], offset=64), tensor)


async def test_texts_and_bfloat16(client: Any, region: Any) -> None:
    await client.register_system_shared_memory("region", region.key, SIZE)
    texts = np.array([b"a", "日本".encode(), b""], object)
    serialized = serialize_byte_tensor(texts)
    shm.set_shared_memory_region(region, [serialized])
    size = len(serialized.item())
    result = await client.infer(
        "echo_bytes",
        [from_region("x", [3], "BYTES", size)],
        outputs=[to_region("y", 1000, 64)],
    )
    assert result.get_output("y")["parameters"]["shared_memory_byte_size"] == size
    assert_same(shm.get_contents_as_numpy(region, np.object_, [3], offset=64), texts)

    halves = narrow(np.array([1.5, -2.0], "f4"))
    shm.set_shared_memory_region(region, [halves])
    result = await client.infer(
        "echo_bf16", [from_region("x", [2], "BF16", 4)], outputs=[to_region("y", 8, 64)]
    )
    assert result.get_output("y")["datatype"] == "BF16"
    assert_same(shm.get_contents_as_numpy(region, np.uint16, [2], offset=64), halves)


@pytest.mark.parametrize(
    ("size", "offset", "out_size", "says"),
    [
        (252, 0, 32, "need 256 bytes, but 252 came"),
        (256, SIZE - 255, 32, "not within the shared memory region 'region'"),
        (256, 0, 31, "takes 32 bytes, but its place"),
    ],
)
async def test_places_that_do_not_fit(
    client: Any, region: Any, size: int, offset: int, out_size: int, says: str
) -> None:
    await client.register_system_shared_memory("region", region.key, SIZE)
    with pytest.raises(InferenceServerException) as refused:
        await client.infer(
            "matmul",
            [from_region("x", [1, 64], "FP32", size, offset)],
            outputs=[to_region("y", out_size, 512)],
        )
    assert refused.value.status() == "400"
    assert says in refused.value.message()
    assert not any(shm.get_contents_as_numpy(region, np.uint8, [64], offset=512))


async def test_a_region_that_was_forgotten(client: Any, region: Any) -> None:
    await client.register_system_shared_memory("region", region.key, SIZE)
    await client.unregister_system_shared_memory("region")
    with pytest.raises(InferenceServerException, match="no shared memory region 'region'"):
        await client.infer("matmul", [from_region("x", [1, 64], "FP32", 256)])


async def test_cuda_memory_is_declined(client: Any) -> None:
    assert await client.get_cuda_shared_memory_status() == []
    await client.unregister_cuda_shared_memory()
    with pytest.raises(InferenceServerException) as refused:
        await client.register_cuda_shared_memory("r", b"handle", 0, 64)
    assert refused.value.status() == "400"
    assert "use system shared memory" in refused.value.message()


async def test_without_the_setting_it_is_refused_with_the_cure(triton: Any) -> None:
    assert "system_shared_memory" not in (await triton.get_server_metadata())["extensions"]
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("get_system_shared_memory_status", ()),
        ("register_system_shared_memory", ("region", "/key", 64)),
        ("unregister_system_shared_memory", ("region",)),
        ("unregister_system_shared_memory", ()),
        ("infer", ("matmul", [from_region("x", [1, 64], "FP32", 256)])),
    ]
    for name, arguments in calls:
        with pytest.raises(InferenceServerException) as refused:
            await getattr(triton, name)(*arguments)
        assert refused.value.status() == "400", name
        assert "--allow-shared-memory" in refused.value.message(), name
