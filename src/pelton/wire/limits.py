"""How much a decoder takes from a stranger before it refuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that every decoder keeps, whatever the bytes claim.

    Attributes:
        max_body_bytes: size of a body as it arrives, after decompression, and after its values
            have been expanded to arrays.
        max_json_bytes: size of what is read as JSON: a whole body, or the JSON part of one. Reading
            it is one long step that holds up every other request.
        max_json_depth: nesting of JSON, MessagePack and pickled containers.
        max_tensors: inputs, and likewise outputs, of one request.
        max_pickle_ops: opcodes of one pickle, and likewise values of one MessagePack body.
    """

    max_body_bytes: int = 64 * 1024 * 1024
    max_json_bytes: int = 32 * 1024 * 1024
    max_json_depth: int = 64
    max_tensors: int = 256
    max_pickle_ops: int = 200_000
