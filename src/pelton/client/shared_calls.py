"""Inferences whose big tensors lie in memory that client and server share.

How one goes is written once, as a generator: it yields the calls that are to be made, is sent
their answers, and is thrown their errors. The clients differ only in how they make a call.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pelton.client.blocks import SHARED_FROM_BYTES, Block, BlockPool, Taken, block_bytes
from pelton.client.calls import Call, Calls, InferOptions, SharedTensors, array_of, names_of
from pelton.client.named_memory import NamedMemory, is_left_behind, remove_stale
from pelton.errors import InvalidRequest, ModelFailed, PeltonError, SettingsError, Unavailable
from pelton.messages import InferResponse
from pelton.tensors import Array
from pelton.wire.oip_client import Sharing
from pelton.wire.oip_regions import Place

T = TypeVar("T")

Asking = Generator[Call[Any], Any, T]
"""Yields calls, is sent their answers or thrown their `PeltonError`, and returns a result."""

_ANSWERED = (InvalidRequest, ModelFailed, Unavailable)
"""Errors after which the server has surely done with a request's memory."""

_REMEMBERED = 256
"""Kinds of requests whose answers' sizes are remembered."""

_NEVER: dict[str, int] = {}
"""In the place of sizes: the outputs of such requests stay in the message."""

Sizes = Mapping[str, int]
"""Output name -> bytes of shared memory that it needs; 0 for one that comes in the message."""


class _Prepared(NamedTuple):
    """An inference that is ready to be sent.

    Attributes:
        call: the call.
        kind: what its answer's sizes are remembered under.
        copies: the memory of inputs that were copied; held until the answer is there.
        outputs: the blocks in which outputs shall come.
        regions: the names of all blocks that it tells of.
    """

    call: Call[InferResponse]
    kind: tuple[object, ...]
    copies: list[memoryview]
    outputs: list[Block]
    regions: set[str]


class SharedCalls:
    """Inferences of one client through shared memory; threads may share it."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._pool = BlockPool()
        self._sizes: dict[tuple[object, ...], Sizes] = {}
        self._tidied_by = 0

    def infer(
        self, model: str, inputs: Mapping[str, npt.ArrayLike], options: InferOptions
    ) -> Asking[InferResponse]:
        """Run a model; see `Client.infer`."""
        arrays = {name: array_of(name, value) for name, value in inputs.items()}
        ready = yield from self._prepare(model, arrays, options)
        try:
            return (yield from self._run(ready))
        except InvalidRequest:
            # A server that was started anew knows no region, and has not run the model.
            if not (yield from self._forget_lost(ready.regions)):
                # Perhaps an output did not fit; not every server then sends it instead.
                if ready.outputs:
                    self._sizes[ready.kind] = _NEVER
                raise
        ready = yield from self._prepare(model, arrays, options)
        return (yield from self._run(ready))

    def empty(self, shape: Sequence[int] | int, dtype: npt.DTypeLike) -> Asking[Array]:
        """Make an array in shared memory; see `Client.empty`."""
        kind = np.dtype(dtype)
        dims = (shape,) if isinstance(shape, int) else tuple(shape)
        size = math.prod(dims) * kind.itemsize
        if size < SHARED_FROM_BYTES or kind.hasobject:
            return np.empty(dims, kind)
        taken = yield from self._take(size)
        if taken is None:
            return np.empty(dims, kind)
        array: Array = np.frombuffer(taken.memory[:size], kind).reshape(dims)
        return array

    def close(self) -> Asking[None]:
        """Have the server forget all regions; arrays over them stay as they are."""
        self._pool.forget_all_but(set())
        for region in self._pool.left():
            yield self._calls.unregister(region)

    def _run(self, ready: _Prepared) -> Asking[InferResponse]:
        done = False
        try:
            response: InferResponse = yield ready.call
            done = True
        except _ANSWERED:
            done = True
            raise
        finally:
            if not done:
                # The model may still be running, and its outputs would be written here.
                for block in ready.outputs:
                    self._pool.drop(block)
        self._learn(ready.kind, response)
        return response

    def _prepare(
        self, model: str, arrays: Mapping[str, Array], options: InferOptions
    ) -> Asking[_Prepared]:
        """Give every big tensor its place, and write the request."""
        copies: list[memoryview] = []
        inputs: dict[str, Place] = {}
        for name, array in arrays.items():
            if not _may_be_shared(name, array, options):
                continue
            place = self._pool.find(array)
            if place is None:
                taken = yield from self._take(array.nbytes)
                if taken is None:
                    continue
                place = _copied(array, taken)
                copies.append(taken.memory)
            inputs[name] = place
        kind = _kind(model, arrays, options)
        # A second try could meet the first one, still writing: it gets no memory to write to.
        sizes = {} if options.idempotent else self._sizes.get(kind, {})
        outputs = yield from self._take_outputs(sizes)
        wanted = {name: None if each is None else each.whole() for name, each in outputs.items()}
        taken_outputs = {name: each for name, each in outputs.items() if each is not None}
        shared = SharedTensors(
            Sharing(inputs, wanted if taken_outputs else {}),
            {name: each.memory for name, each in taken_outputs.items()},
        )
        call = self._calls.infer(model, arrays, options, shared)
        blocks = [each.block for each in taken_outputs.values()]
        regions = {place.region for place in inputs.values()} | {each.name for each in blocks}
        return _Prepared(call, kind, copies, blocks, regions)

    def _take_outputs(self, sizes: Sizes) -> Asking[dict[str, Taken | None]]:
        """Take a block for every output that needs one; None for those that come as ever."""
        outputs: dict[str, Taken | None] = {}
        for name, size in sizes.items():
            outputs[name] = (yield from self._take(size)) if size else None
        return outputs

    def _take(self, size: int) -> Asking[Taken | None]:
        """Take a free block, or have one registered; None where there are too many."""
        taken = self._pool.take(size)
        if taken is not None or not self._pool.may_grow():
            return taken
        yield from self._tidy()
        memory = _new_memory(block_bytes(size))
        # Dropped again in any case but the good one: the server may have mapped it and not said so.
        taken = self._pool.add(Block(memory))
        registered = False
        try:
            yield self._calls.register(memory.name, block_bytes(size))
            registered = True
        except InvalidRequest as refused:
            raise SettingsError(
                f"the server refused Client(shared_memory=True): {refused.message}"
            ) from refused
        finally:
            # The server has mapped it, or will never find it.
            memory.unlink()
            if not registered:
                self._pool.drop(taken.block)
        return taken

    def _tidy(self) -> Asking[None]:
        """Have the server forget what is not used any more: ours, and of clients that died."""
        regions = self._pool.left()
        if self._tidied_by != os.getpid():
            self._tidied_by = os.getpid()
            remove_stale()
            with contextlib.suppress(InvalidRequest):
                known = yield self._calls.regions()
                regions += [name for name, key in known if is_left_behind(key)]
        for region in regions:
            with contextlib.suppress(PeltonError):
                yield self._calls.unregister(region)

    def _forget_lost(self, regions: set[str]) -> Asking[bool]:
        """Drop the blocks that the server does not know; say whether the request named one."""
        if not regions:
            return False
        known = {name for name, _ in (yield self._calls.regions())}
        if regions <= known:
            return False
        self._pool.forget_all_but(known)
        return True

    def _learn(self, kind: tuple[object, ...], response: InferResponse) -> None:
        """Remember how much memory the outputs of such a request need."""
        before = self._sizes.get(kind, {})
        sizes = {
            name: max(_shared_bytes(value), before.get(name, 0))
            for name, value in response.outputs.items()
        }
        if before is _NEVER or sizes == before or not any(sizes.values()):
            return
        if len(self._sizes) >= _REMEMBERED:
            self._sizes.clear()
        self._sizes[kind] = sizes


def _kind(model: str, arrays: Mapping[str, Array], options: InferOptions) -> tuple[object, ...]:
    shapes = tuple((name, each.shape, each.dtype) for name, each in arrays.items())
    return (model, options.version, names_of(options.outputs), shapes)


def _may_be_shared(name: str, array: Array, options: InferOptions) -> bool:
    """Say whether a tensor is big, and its elements go over the wire as they are in memory."""
    if array.nbytes < SHARED_FROM_BYTES or array.dtype.kind not in "biuf":
        return False
    return not (options.datatypes and options.datatypes.get(name) == "BF16")


def _shared_bytes(value: object) -> int:
    if not isinstance(value, np.ndarray) or value.dtype.hasobject:
        return 0
    return value.nbytes if value.nbytes >= SHARED_FROM_BYTES else 0


def _copied(array: Array, taken: Taken) -> Place:
    """Copy an array of any layout to the beginning of a block."""
    row_major = np.frombuffer(taken.memory[: array.nbytes], array.dtype.newbyteorder("<"))
    row_major.reshape(array.shape)[...] = array
    return taken.block.place(0, array.nbytes)


def _new_memory(size: int) -> NamedMemory:
    try:
        return NamedMemory(size)
    except OSError as cause:
        raise SettingsError(
            f"there is no room for {size} bytes of shared memory ({cause.strerror}); "
            "give the machine or the container more, such as docker run --shm-size=1g"
        ) from cause
