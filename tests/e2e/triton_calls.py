"""Both clients of `tritonclient.http` behind one face, and how their tensors are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.http
from tritonclient.http import InferInput


class Sync:
    """The blocking client with methods to be awaited."""

    def __init__(self, client: tritonclient.http.InferenceServerClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            return method(*arguments, **named)

        return call


def tensor_of(name: str, array: np.ndarray, datatype: str, binary: bool = True) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def assert_same(actual: np.ndarray, wanted: np.ndarray) -> None:
    """Compare bit by bit, so that NaN is equal and -0.0 is not 0.0."""
    assert actual.shape == wanted.shape
    if wanted.dtype == np.object_:
        as_bytes = [each.encode() if isinstance(each, str) else each for each in actual.ravel()]
        assert as_bytes == wanted.ravel().tolist()
    else:
        assert actual.dtype == wanted.dtype
        assert actual.tobytes() == wanted.tobytes()
