"""Archives made to write where they must not, to fill the disk, or to keep the server busy.

Each is refused with one of our own errors that names the entry, before anything is written. An
archive that is taken puts regular files and folders below its folder, with no more bytes than it
has itself.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from pelton.errors import Code, InvalidRequest
from pelton.repository.archive import MAX_ENTRIES, survey, unpack
from repository.archives import BLOCK, END, entry, header, pax, surveyed, tarred

GOOD = entry()


def refused(archive: bytes, match: str, code: Code = Code.MALFORMED_REQUEST) -> None:
    """Assert that an archive is refused by its headers alone, and why."""
    with pytest.raises(InvalidRequest, match=match) as told:
        surveyed(archive)
    assert told.value.code is code
    assert len(told.value.message) < 600
    assert told.value.message.isprintable()


BAD_NAMES = {
    "dotdot": (b"../model.onnx", "'..'"),
    "dotdot_inside": (b"a/../../model.onnx", "'..'"),
    "dotdot_last": (b"a/..", "'..'"),
    "dot_inside": (b"a/./b", "'.'"),
    "absolute": (b"/etc/passwd", "absolute"),
    "two_slashes": (b"//etc/passwd", "absolute"),
    "drive": (b"C:/model.onnx", "absolute"),
    "drive_relative": (b"c:model.onnx", "absolute"),
    "backslash": (b"..\\model.onnx", "backslash"),
    "share": (b"\\\\host\\share", "backslash"),
    "empty": (b"", "''"),
    "empty_part": (b"a//b", "''"),
    "only_dot": (b".", "'.'"),
    "slash_at_the_end_of_a_file": (b"a/", "''"),
    "newline": (b"a\nb", "cannot be printed"),
    "escape": (b"\x1b[2J", "cannot be printed"),
    "bidi": ("model\u202exnno.".encode(), "cannot be printed"),
    "nul": (b"model\0.onnx", "zero byte"),
    "not_utf8": (b"model\xff.onnx", "not UTF-8"),
    "surrogate": (b"model\xed\xa0\x80", "not UTF-8"),
}


@pytest.mark.parametrize(("name", "match"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_that_lead_elsewhere_are_refused(name: bytes, match: str) -> None:
    refused(GOOD + entry(name) + END, match)


@pytest.mark.parametrize(
    ("name", "match"),
    [one for one in BAD_NAMES.values() if one[0]],
    ids=[key for key in BAD_NAMES if key != "empty"],
)
def test_names_in_extended_headers_are_looked_at_as_well(name: bytes, match: str) -> None:
    match = match.replace("zero byte", "cannot be printed")

    refused(pax([(b"path", name)]) + GOOD + END, match)
    refused(entry(b"././@LongLink", name + b"\0", b"L") + GOOD + END, match)


def test_a_prefix_joins_a_name_before_it_is_looked_at() -> None:
    refused(entry(b"passwd", prefix=b"/etc") + END, "absolute")
    refused(entry(b"b", prefix=b"a/..") + END, r"'\.\.'")


def test_long_names_and_paths_are_refused() -> None:
    refused(tarred(("x" * 256, b"")), "255 bytes")
    refused(tarred(("ü" * 128, b"")), "255 bytes")
    refused(tarred(("/".join(["x" * 250] * 5), b"")), "1000 bytes")
    refused(tarred(("a/" * 32 + "b", b"")), "32 folders deep")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("model.onnx", "model.onnx"),
        ("a", "a"),
        ("model.onnx", "./model.onnx"),
        ("model.onnx", "MODEL.onnx"),
        ("data/x", "Data/y"),
        ("\u00e9.onnx", "e\u0301.onnx"),
        ("\u212b.onnx", "\u00e5.onnx"),
        ("stra\u00dfe", "STRASSE"),
        ("\u1e9e/x", "ss/y"),
        ("model", "model/x"),
        ("model/x", "model"),
        ("Model", "model/x"),
    ],
)
def test_two_entries_of_one_place_are_refused(one: str, other: str) -> None:
    refused(tarred((one, b""), (other, b"")), "one and the same")


def test_a_folder_in_the_place_of_a_file_is_refused() -> None:
    refused(tarred(("a", b""), ("a", None)), "one and the same")
    refused(tarred(("a", None), ("a", b"")), "one and the same")
    refused(tarred(("a", None), ("a", None), ("b", b"")), "twice")


KINDS = {
    "hardlink": (tarfile.LNKTYPE, "hard link"),
    "symlink": (tarfile.SYMTYPE, "symbolic link"),
    "character_device": (tarfile.CHRTYPE, "device"),
    "block_device": (tarfile.BLKTYPE, "device"),
    "fifo": (tarfile.FIFOTYPE, "pipe"),
    "gnu_long_link": (tarfile.GNUTYPE_LONGLINK, "link"),
    "gnu_sparse": (tarfile.GNUTYPE_SPARSE, "sparse"),
    "gnu_folder_dump": (b"D", "unknown kind"),
    "gnu_multi_volume": (b"M", "unknown kind"),
    "solaris_extended": (b"X", "unknown kind"),
    "unknown": (b"\xff", "unknown kind"),
}


@pytest.mark.parametrize(("kind", "match"), KINDS.values(), ids=KINDS)
def test_nothing_but_files_and_folders_is_taken(kind: bytes, match: str) -> None:
    refused(GOOD + header(b"evil", kind=kind, link=b"../../target") + END, f"'evil' is .*{match}")


def test_links_of_the_standard_library_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"weights")
    (tmp_path / "soft").symlink_to("/etc/passwd")
    os.link(tmp_path / "model.onnx", tmp_path / "zhard")
    for names in (["soft"], ["model.onnx", "zhard"]):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for name in names:
                tar.add(tmp_path / name, name)
        refused(made.getvalue(), f"'{names[-1]}' is a .* link")


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755])
def test_files_that_set_an_id_are_refused(mode: int) -> None:
    refused(GOOD + entry(b"run", mode=mode) + END, "'run' sets a user or group id")


def test_sparse_files_are_refused_in_each_of_their_forms(tmp_path: Path) -> None:
    size = b"68719476736"
    for records in (
        [(b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", b"0")],
        [(b"GNU.sparse.size", size), (b"GNU.sparse.map", b"0,1")],
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", size)],
        [(b"SCHILY.realsize", size)],
    ):
        refused(pax(records) + GOOD + END, "sparse")
        refused(pax(records, b"g") + GOOD + END, "sparse")


NUMBERS = {
    "letters": b"12abc\0",
    "digit_8": b"00000000008\0",
    "sign": b"-0000000001\0",
    "plus": b"+0000000001\0",
    "negative_binary": b"\xff" * 12,
    "huge_binary": b"\x80" + b"\xff" * 11,
    "digits_after_the_end": b"0\x001234567890",
    "other_flag": b"\x81" + bytes(11),
}


@pytest.mark.parametrize("size", NUMBERS.values(), ids=NUMBERS)
def test_sizes_that_are_none_are_refused(size: bytes) -> None:
    refused(GOOD + header(b"evil", size) + END, "'evil' has a size that is none")
    refused(GOOD + header(b"evil", size, b"x") + END, "has a size that is none")


@pytest.mark.parametrize(
    "size", [b"-1", b"+7", b"1_0", b" 7", b"", b"7.0", b"1e3", "٧".encode(), b"9" * 19]
)
def test_sizes_in_extended_headers_are_read_strictly(size: bytes) -> None:
    refused(pax([(b"size", size)]) + entry(b"evil") + END, "'evil' has a size that is none")


@pytest.mark.parametrize("size", [8, BLOCK * 3 + 1, 1 << 30, (1 << 33) - 1])
def test_an_entry_that_claims_more_than_was_sent_is_refused(size: int) -> None:
    archive = header(b"evil", size) + b"weights" + END

    refused(archive[: BLOCK + 7] if size == 8 else archive, "cut off")


def test_a_folder_with_bytes_is_refused() -> None:
    refused(entry(b"folder", kind=b"5") + GOOD + END, "folder that has bytes")


RECORDS = {
    "no_length": b"path=x\n",
    "length_of_zero": b"0 path=x\n",
    "short": b"3 path=x\n",
    "long": b"99 path=x\n",
    "no_line_feed": b"9 path=xy",
    "no_equals_sign": b"7 path\n",
    "sign": b"+9 path=x\n",
    "zero_in_front": b"010 path=x\n",
    "huge": b"9" * 300 + b" path=x\n",
    "zeros": bytes(40),
    "one_byte": b"1",
    "only_a_length": b"2 ",
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_extended_headers_are_read_strictly(record: bytes) -> None:
    refused(entry(b"PaxHeader", record, b"x") + GOOD + END, "extended header")


def test_what_is_said_twice_or_for_all_or_for_nobody_is_refused() -> None:
    path = (b"path", b"a")
    refused(pax([path, path]) + GOOD + END, "twice")
    refused(pax([path]) + pax([path]) + GOOD + END, "twice")
    refused(pax([path]) + entry(b"././@LongLink", b"b\0", b"L") + GOOD + END, "twice")
    refused(pax([path], b"g") + GOOD + END, "all of its entries")
    refused(pax([(b"size", b"1")], b"g") + GOOD + END, "all of its entries")
    refused(GOOD + pax([path]) + END, "further entry")
    refused(pax([(b"path", b"")]) + GOOD + END, "''")


def test_a_broken_checksum_is_refused_at_its_place() -> None:
    block = bytearray(header(b"evil"))
    block[0] ^= 1

    refused(GOOD + block + END, "header at byte 1024 has a wrong checksum")


def test_what_is_cut_off_is_refused_at_every_length() -> None:
    archive = pax([(b"path", b"data/x")]) + entry() + entry(b"b", b"y" * 700) + END
    for length in range(len(archive)):
        with pytest.raises(InvalidRequest) as told:
            surveyed(archive[:length])
        assert told.value.code is Code.MALFORMED_REQUEST


def test_what_follows_the_end_is_refused() -> None:
    refused(GOOD + END + entry(b"second"), "follows the archive's end")
    refused(GOOD + END + b"x", "follows the archive's end")
    refused(GOOD + bytes(BLOCK) + entry(b"second") + END, "goes on")
    assert surveyed(GOOD + END + bytes(10_000))


def test_an_archive_without_files_is_refused() -> None:
    refused(END, "holds no file")
    refused(tarred(("a", None), ("a/b", None)), "holds no file")
    refused(tarred(("._model", b""), ("a/.DS_Store", b"")), "holds no file")


class Endless(io.RawIOBase):
    """An archive of the same bytes again and again, as long as somebody reads it."""

    def __init__(self, piece: bytes) -> None:
        self.piece = piece
        self.read_bytes = 0
        self.at = 0

    def seek(self, at: int, whence: int = 0) -> int:
        self.at = at
        return at

    def read(self, size: int = -1) -> bytes:
        self.read_bytes += size
        start = self.at % len(self.piece)
        self.at += size
        return (self.piece * (size // len(self.piece) + 2))[start : start + size]


def test_a_million_entries_are_refused_before_they_are_read() -> None:
    with pytest.raises(InvalidRequest, match="10000 files") as told:
        surveyed(b"".join(header(b"%d" % one) for one in range(MAX_ENTRIES + 1)) + END)
    assert told.value.code is Code.TOO_LARGE


FLOODS = {
    "extended_headers_for_all": pax([(b"comment", b"x")], b"g"),
    "large_extended_headers": pax([(b"comment", b"x" * 60_000)], b"g"),
    "small_records": pax([(b"a", b"b")] * 10_000, b"g"),
}


@pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS)
def test_floods_of_headers_are_refused_early(piece: bytes) -> None:
    archive = Endless(piece)

    with pytest.raises(InvalidRequest, match=r"too many entries|too large") as told:
        survey(archive, 1 << 40)

    assert told.value.code is Code.TOO_LARGE
    assert archive.read_bytes < 32 << 20


def test_folders_that_are_only_part_of_paths_count() -> None:
    paths = ("/".join([*(f"{one}-{depth}" for depth in range(20)), "x"]) for one in range(600))

    refused(tarred(*((path, b"") for path in paths)), "10000 files and folders", Code.TOO_LARGE)


def test_an_extended_header_of_a_gigabyte_is_not_read() -> None:
    archive = Endless(header(b"PaxHeader", 1 << 30, b"x"))

    with pytest.raises(InvalidRequest, match="too large"):
        survey(archive, 1 << 40)

    assert archive.read_bytes == BLOCK


def test_links_that_are_there_already_are_not_followed(tmp_path: Path) -> None:
    """Not even if somebody puts them there between the two passes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for number, (name, target) in enumerate([("data", outside), ("model.onnx", outside / "new")]):
        folder = tmp_path / f"folder-{number}"
        folder.mkdir()
        (folder / name).symlink_to(target)
        descriptor = os.open(folder, os.O_RDONLY)
        archive = tarred(("data/x", b"1"), ("model.onnx", b"2"))
        with pytest.raises(OSError):
            unpack(io.BytesIO(archive), surveyed(archive), descriptor)
        os.close(descriptor)
    assert not list(outside.iterdir())


def test_an_archive_that_shrinks_between_the_passes_is_refused(tmp_path: Path) -> None:
    archive = tarred(("model.onnx", b"x" * 5000))
    descriptor = os.open(tmp_path, os.O_RDONLY)

    with pytest.raises(InvalidRequest, match="became shorter"):
        unpack(io.BytesIO(archive[:3000]), surveyed(archive), descriptor)
    os.close(descriptor)
