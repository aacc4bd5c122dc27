"""Requests of the Open Inference Protocol written out by hand, apart from Pelton's own encoder."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from raw_http import Headers, RawReply, plain


def json_body(*inputs: dict[str, Any], **more: Any) -> bytes:
    """Write a request that is all JSON."""
    return json.dumps({"inputs": list(inputs), **more}).encode()


def tensor(name: Any, datatype: Any, shape: Sequence[Any], data: Any = None) -> dict[str, Any]:
    """Write a tensor's entry; without data it is for a binary part."""
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(shape)}
    return entry if data is None else entry | {"data": data}


def binary_tensor(name: Any, datatype: Any, shape: Sequence[Any], size: Any) -> dict[str, Any]:
    """Write the entry of a tensor that lies in the binary part."""
    return tensor(name, datatype, shape) | {"parameters": {"binary_data_size": size}}


def binary_body(header: dict[str, Any], *parts: bytes) -> tuple[bytes, dict[str, str]]:
    """Write a body with a binary part, and the header that tells where it begins."""
    said = json.dumps(header).encode()
    return said + b"".join(parts), {"Inference-Header-Content-Length": str(len(said))}


def binary_request(path: str, header: dict[str, Any], *parts: bytes) -> bytes:
    """Write a whole binary request."""
    body, headers = binary_body(header, *parts)
    return plain(path, body, headers)


def json_request(path: str, body: bytes, headers: Headers = ()) -> bytes:
    """Write a whole JSON request."""
    return plain(path, body, [("Content-Type", "application/json"), *dict(headers).items()])


def bytes_elements(*elements: bytes) -> bytes:
    """Write elements of BYTES in binary form."""
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def read_reply(reply: RawReply) -> dict[str, Any]:
    """Take a response apart: output name -> its entry, with `data` as JSON list or as bytes."""
    length = reply.headers.get("inference-header-content-length")
    cut = len(reply.body) if length is None else int(length)
    said = json.loads(reply.body[:cut])
    found, at = {}, cut
    for entry in said["outputs"]:
        size = entry.get("parameters", {}).get("binary_data_size")
        if size is not None:
            entry["data"] = reply.body[at : at + size]
            at += size
        found[entry["name"]] = entry
    assert at == len(reply.body)
    return found


def floats(entry: dict[str, Any]) -> np.ndarray:
    """Return the float32 array of an output that came as binary data."""
    return np.frombuffer(entry["data"], "<f4").reshape(entry["shape"])
