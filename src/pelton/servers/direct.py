"""Which requests the gate answers itself, without the control side."""

from __future__ import annotations

from pelton.servers.http_head import RequestHead
from pelton.servers.inference import Target, inference_target, wants_compression


def direct_target(head: RequestHead) -> Target | None:
    """Return the inference endpoint if the gate itself can receive and answer the request."""
    if head.method != "POST" or head.content_length is None:
        return None
    if "content-encoding" in head.headers or wants_compression(head.headers):
        return None
    return inference_target(head.path, head.query)
