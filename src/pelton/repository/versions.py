"""Which versions of a model are loaded, of those that are there."""

from __future__ import annotations

from collections.abc import Iterable

from pelton.specs import VersionPolicy


def chosen_versions(policy: VersionPolicy, versions: Iterable[int]) -> tuple[int, ...]:
    """Return the versions to load, ascending.

    Args:
        policy: which ones are wanted.
        versions: those that are there.

    >>> chosen_versions(VersionPolicy(2), [9, 10, 1])
    (9, 10)
    >>> chosen_versions(VersionPolicy(None, (1, 3)), [1, 2])
    (1,)
    """
    fitting = sorted(
        version for version in set(versions) if not policy.only or version in policy.only
    )
    return tuple(fitting if policy.latest is None else fitting[-policy.latest :])
