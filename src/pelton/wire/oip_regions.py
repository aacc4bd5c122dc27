"""Tensors that lie in memory which client and server share, as the JSON part tells of them.

Triton's shared memory extension: in the place of its elements a tensor has the parameters
`shared_memory_region`, the name under which the region was registered, `shared_memory_byte_size`
and, where it does not begin at the region's first byte, `shared_memory_offset`. The bytes in the
region are those that would have been sent as binary data.

What a region is, only the caller of this room knows; it hands in something that finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from pelton.errors import InvalidRequest
from pelton.messages import Parameter
from pelton.wire.array_bytes import Buffer

PREFIX = "shared_memory_"
"""How all the parameters of this extension begin."""

NOT_ENABLED = (
    "shared memory is not enabled on this server for this connection; connect as the same user "
    "through its Unix socket, or start it with --allow-shared-memory"
)
"""What a caller hears that may not use any."""

_REGION, _SIZE, _OFFSET = PREFIX + "region", PREFIX + "byte_size", PREFIX + "offset"
_LARGEST = 2**63 - 1


class Place(NamedTuple):
    """Where a tensor's bytes lie.

    Attributes:
        region: the name under which the region was registered.
        offset: of the first byte in the region, not negative.
        size: bytes, not negative.
    """

    region: str
    offset: int
    size: int

    def parameters(self, used_bytes: int) -> dict[str, Parameter]:
        """Return the parameters that tell of a tensor which takes `used_bytes` here."""
        return {_REGION: self.region, _SIZE: used_bytes, _OFFSET: self.offset}


Write = Callable[[Buffer], None]
"""Writes the bytes of one output to its place.

Raises:
    InvalidRequest: they are more than the place has room for, or its memory is gone.
"""


class Regions(Protocol):
    """Finds the places of one server's registered regions."""

    def view(self, place: Place, what: str) -> memoryview:
        """Return a read-only view of the bytes of one input.

        Args:
            place: where.
            what: how an error shall name the tensor.

        Raises:
            InvalidRequest: no such region, or the place is not within it.
        """
        ...

    def writer(self, place: Place, what: str) -> Write:
        """Return what will write one output; the region stays for as long as that is kept.

        Args:
            place: where.
            what: how an error shall name the tensor.

        Raises:
            InvalidRequest: no such region, or the place is not within it.
        """
        ...


def read_place(parameters: Mapping[str, Parameter], what: str) -> Place | None:
    """Read where a tensor lies; None where its parameters do not say so.

    Args:
        parameters: of the tensor.
        what: how an error shall name it.

    Raises:
        InvalidRequest: a parameter is missing, of the wrong kind, or unknown.
    """
    told = [key for key in parameters if key.startswith(PREFIX)]
    if not told:
        return None
    for key in told:
        if key not in (_REGION, _SIZE, _OFFSET):
            raise InvalidRequest(
                f"{what} has the unknown parameter {key!r:.60}; "
                f"known are {_REGION}, {_SIZE}, {_OFFSET}"
            )
    region = parameters.get(_REGION)
    if not isinstance(region, str) or not region:
        raise InvalidRequest(f'{what}: "{_REGION}" must be the name of a region')
    if _SIZE not in parameters:
        raise InvalidRequest(f'{what} needs the parameter "{_SIZE}" beside "{_REGION}"')
    return Place(region, _count(parameters, _OFFSET, what), _count(parameters, _SIZE, what))


def _count(parameters: Mapping[str, Parameter], key: str, what: str) -> int:
    value = parameters.get(key, 0)
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise InvalidRequest(f'{what}: "{key}" must be a number of bytes, not {value!r:.40}')
    return value
