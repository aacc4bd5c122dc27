"""POSIX shared memory of clients on the same machine: tensors that need not cross the socket.

A client makes a shared memory object, registers a part of it as a region under a name, and then
names places in it instead of sending bytes: Triton's system shared memory extension. The object
stays the client's. It is opened by its key and mapped; it is never resized and never unlinked.

A mapping lives until nothing refers to it: an unregistered region is not found by new requests,
but arrays over it, and outputs that are still to be written, keep it.

Before each use the object is asked again whether the place is still there, and the kernel to put
memory behind it: a page that cannot be had would otherwise end the whole server with SIGBUS. What
is left: a client that makes its object smaller, or changes an input, *while* its request is being
answered. So only those may name regions who could end the server anyway: its own user, over the
Unix socket; and everybody only where the server was told so.
"""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import re
import sys
from collections.abc import Callable, Iterable

from pelton.errors import InvalidRequest, NotFound
from pelton.servers.origin import Origin
from pelton.wire.array_bytes import Buffer
from pelton.wire.oip_regions import Place, Write

MAX_REGIONS = 256
"""Each keeps a file descriptor."""

MAX_TOTAL_BYTES = 1 << 36
"""Of all regions together. They take address space, and memory only where clients use it."""

MAX_NAME_CHARACTERS = 128
MAX_BYTES = 2**63 - 1

_KEY = re.compile(r"/?[!-.0-~]{1,250}")
_RESERVED = ("triton_", ".")
"""How no key may begin: Triton keeps the first for its own regions, and so do its clients."""

_POPULATE_READ, _POPULATE_WRITE = 22, 23
"""Linux 5.14 and later, see madvise(2); the `mmap` module does not name them."""


# Of CPython itself, and what `multiprocessing.shared_memory` stands on.
_shm_open: Callable[[str, int, int], int] = importlib.import_module("_posixshmem").shm_open


class SharedRegions:
    """The regions that are registered at one server.

    Attributes:
        for_all: whether every connection may use them.
        total_bytes: size of all of them together.
    """

    def __init__(self, for_all: bool) -> None:
        self.for_all = for_all
        self.total_bytes = 0
        self._by_name: dict[str, _Region] = {}

    def open_to(self, origin: Origin) -> SharedRegions | None:
        """Return the regions for one caller; None where it may not use any."""
        return self if self.for_all or origin.same_user else None

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Map a part of a client's shared memory object.

        Args:
            name: how requests will call it.
            key: the object's name, with or without the slash before it.
            offset: of the region's first byte in the object.
            size: bytes of the region, at least one.

        Raises:
            InvalidRequest: the name is taken; name, key, offset or size is none; there is no such
                object, it is too small, or another user's; or there are too many regions.
        """
        _check_name(name)
        if name in self._by_name:
            raise InvalidRequest(f"shared memory region {name!r} already in manager")
        if not _KEY.fullmatch(key) or key.lstrip("/").startswith(_RESERVED):
            raise InvalidRequest(
                f"the key {key!r:.60} names no shared memory object: a key has at most 250 "
                'characters of printable ASCII, no "/" but in front, and does not begin with '
                f"{' or '.join(map(repr, _RESERVED))}"
            )
        if size == 0:
            raise InvalidRequest(f"shared memory region {name!r} is empty")
        total_bytes = self.total_bytes + size
        if len(self._by_name) >= MAX_REGIONS or total_bytes > MAX_TOTAL_BYTES:
            raise InvalidRequest(
                f"at most {MAX_REGIONS} regions of {MAX_TOTAL_BYTES} bytes in all can be "
                "registered; unregister those that are not used any more"
            )
        self._by_name[name] = _Region(name, key, offset, size)
        self.total_bytes = total_bytes

    def unregister(self, name: str | None) -> None:
        """Forget a region, or all of them for None; one that is not there is forgotten already."""
        if name is None:
            self._by_name.clear()
        else:
            self._by_name.pop(name, None)
        self.total_bytes = sum(region.size for region in self._by_name.values())

    def status(self, name: str | None) -> list[dict[str, str | int]]:
        """Return what is registered: one region, or all for None.

        Raises:
            NotFound: no region has that name.
        """
        wanted: Iterable[_Region] = self._by_name.values()
        if name is not None:
            if name not in self._by_name:
                raise NotFound(f"no shared memory region {name!r:.60} is registered")
            wanted = [self._by_name[name]]
        return [
            {"name": each.name, "key": each.key, "offset": each.offset, "byte_size": each.size}
            for each in wanted
        ]

    def view(self, place: Place, what: str) -> memoryview:
        """Return a read-only view of the bytes of one input; see `wire.oip_regions.Regions`."""
        return self._of(place, what).readable(place, what)

    def writer(self, place: Place, what: str) -> Write:
        """Return what will write one output; see `wire.oip_regions.Regions`."""
        region = self._of(place, what)
        region.check_present(place, what)

        def write(data: Buffer) -> None:
            region.write(place, data, what)

        return write

    def _of(self, place: Place, what: str) -> _Region:
        region = self._by_name.get(place.region)
        if region is None:
            raise InvalidRequest(
                f"{what}: no shared memory region {place.region!r:.60} is registered"
            )
        if place.offset + place.size > region.size:
            raise InvalidRequest(
                f"{what}: {place.size} bytes at offset {place.offset} are not within the shared "
                f"memory region {place.region!r:.60}, which has {region.size} bytes"
            )
        return region


class _Region:
    """One mapped part of a client's object."""

    def __init__(self, name: str, key: str, offset: int, size: int) -> None:
        self.name, self.key, self.offset, self.size = name, key, offset, size
        begin = offset - offset % mmap.ALLOCATIONGRANULARITY
        self._lead = offset - begin
        self._end = offset + size
        file = _open(key)
        try:
            there = os.fstat(file).st_size
            if self._end > there:
                raise InvalidRequest(
                    f"shared memory region {name!r}: {size} bytes at offset {offset} are not "
                    f"within the object {key!r:.60}, which has {there} bytes"
                )
            self._map = mmap.mmap(file, self._lead + size, offset=begin)
        except OSError as error:
            raise _cannot_open(key, error) from error
        finally:
            os.close(file)
        self._bytes = memoryview(self._map)[self._lead :]

    def readable(self, place: Place, what: str) -> memoryview:
        """Return a view of some of its bytes, which lie within it."""
        self._check_memory(place.offset, place.size, _POPULATE_READ, what)
        return self._bytes[place.offset : place.offset + place.size].toreadonly()

    def check_present(self, place: Place, what: str) -> None:
        """Check that memory can be written there."""
        self._check_memory(place.offset, place.size, _POPULATE_WRITE, what)

    def write(self, place: Place, data: Buffer, what: str) -> None:
        """Write an output to its place."""
        if len(data) > place.size:
            raise InvalidRequest(
                f"{what} takes {len(data)} bytes, but its place in the shared memory region "
                f"{place.region!r:.60} has {place.size}"
            )
        self._check_memory(place.offset, len(data), _POPULATE_WRITE, what)
        self._bytes[place.offset : place.offset + len(data)] = data

    def _check_memory(self, offset: int, size: int, populate: int, what: str) -> None:
        """Check that touching some bytes will not fault: they are in the object, and memory too."""
        if self._map.size() < self._end:
            raise InvalidRequest(
                f"{what}: the object of shared memory region {self.name!r} has become smaller than "
                "the region; unregister it"
            )
        if not size or not _POPULATES:
            return
        start = self._lead + offset
        begin = start - start % mmap.PAGESIZE
        try:
            self._map.madvise(populate, begin, start + size - begin)
        except OSError as error:
            if error.errno != errno.EINVAL:  # an older kernel, which does not know the word
                raise InvalidRequest(
                    f"{what}: there is no memory left for its place in the shared memory region "
                    f"{self.name!r}"
                ) from error


_POPULATES = sys.platform == "linux"


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidRequest(
            f"{name!r:.60} is no name for a shared memory region: it has 1 to "
            f"{MAX_NAME_CHARACTERS} characters, all printable"
        )


def _open(key: str) -> int:
    """Open an object, without the bookkeeping of `multiprocessing`, which would unlink it."""
    try:
        return _shm_open("/" + key.removeprefix("/"), os.O_RDWR, 0)
    except (OSError, ValueError) as error:
        raise _cannot_open(key, error) from error


def _cannot_open(key: str, error: Exception) -> InvalidRequest:
    reason = getattr(error, "strerror", None) or "it is none"
    return InvalidRequest(f"cannot open the shared memory object {key!r:.60}: {reason}")
