"""The cache of a version, by what was said of how it is served."""

from __future__ import annotations

import logging
import uuid

from pelton.caching.cache import FarStore, ResultCache, cacheable
from pelton.caching.memory import MemoryStore
from pelton.clock import Clock
from pelton.specs import ModelMetadata, Serving

logger = logging.getLogger("pelton.caching")


def cache_for(
    metadata: ModelMetadata,
    serving: Serving,
    digest: str,
    clock: Clock,
    far: FarStore | None = None,
) -> ResultCache | None:
    """Make the cache of one load of a version; None where its answers are not to be kept.

    Args:
        metadata: of the model, as it was loaded.
        serving: how it is served.
        digest: what is the same wherever just this is served: the digest of the version's
            manifest, which its files were found to have; empty where that is not known. Then
            nothing is known that was kept before this load.
        clock: the server's, on which deadlines are.
        far: where answers are kept besides, for other servers.
    """
    if not serving.cache:
        return None
    if not cacheable(metadata, serving.deterministic, serving.cache_objects):
        logger.info(
            "the answers of model %s are not kept, since its code may answer the same question in "
            "another way; if it does not, say cache_objects = true",
            metadata.name,
        )
        return None
    identity = digest or f"load:{uuid.uuid4().hex}"
    if serving.deterministic:  # then an answer has a digest, which others are kept without
        identity += " deterministic"
    return ResultCache(
        metadata,
        identity,
        MemoryStore(serving.cache_max_bytes, clock),
        serving.cache_ttl_s,
        clock,
        timeout_s=serving.request_timeout_s,
        far=far,
    )
