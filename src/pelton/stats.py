"""What `GET /stats` tells: the users' own names, and what goes on inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pelton.engine.model import Model, ModelStatistics
from pelton.engine.models import Models
from pelton.engine.shadowing import ShadowCounts
from pelton.monitoring.counters import Counters, Totals
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.refused_counts import RefusedCounts


@dataclass(frozen=True, slots=True)
class Copies:
    """What is known of the copies of requests that shadows see.

    Attributes:
        counts: what became of them.
        counters: counts them by version, apart from what callers were told.
    """

    counts: ShadowCounts
    counters: Counters


Tell = Callable[[], Mapping[str, Any]]
"""Returns the numbers of something that only some servers have."""

NOTHING_MORE: Mapping[str, Tell] = MappingProxyType({})


class Statistics:
    """Answers `GET /stats`."""

    def __init__(
        self,
        counters: Counters,
        models: Models,
        budget: MemoryBudget,
        refused: RefusedCounts,
        copies: Copies,
        further: Mapping[str, Tell] = NOTHING_MORE,
    ) -> None:
        """Take what tells the numbers.

        Args:
            counters: of requests.
            models: the loaded ones.
            budget: of memory for bodies.
            refused: who was not let in.
            copies: of requests, for shadows.
            further: what else the whole server tells, by its name there.
        """
        self._copies = copies
        self._further = further
        self._counters = counters
        self._models = models
        self._budget = budget
        self._refused = refused

    def told(self, model: str | None) -> dict[str, Any]:
        """Return the numbers of one model, or of the whole server, which list each model too.

        Where several versions of a model are loaded, each has numbers of its own besides, and
        one that saw copies of requests those of the copies.

        Args:
            model: the name of a model or a route, which is known, or None.
        """
        if model is not None:
            return self._of_model(model)
        return (
            _totals(self._counters.totals(), self._counters.uptime_s())
            | {
                "buffered_bytes": self._budget.buffered_bytes,
                "max_buffered_bytes": self._budget.limit_bytes,
                "waiting_for_memory": self._budget.waiting_for_memory,
                "refused_requests": self._refused.told(),
            }
            | self._shadows()
            | {name: dict(tell()) for name, tell in self._further.items()}
            | {"models": {name: self._of_model(name) for name in self._models.names()}}
        )

    def _of_model(self, name: str) -> dict[str, Any]:
        model = self._models.table.route(name).model
        totals = self._counters.by_model().get(model, Totals())
        loaded = self._models.loaded(model)
        together = _together(one.statistics() for one in loaded)
        told = _totals(totals, self._counters.uptime_s()) | _inside(together) | _kept(loaded)
        if len(loaded) > 1:
            told["versions"] = {
                str(one.version): self._of_version(model, one.version)
                | _inside(one.statistics())
                | _kept([one])
                for one in loaded
            }
        return told

    def _of_version(self, model: str, version: int) -> dict[str, Any]:
        totals = self._counters.by_version(model).get(version, Totals())
        copies = self._copies.counters.by_version(model).get(version)
        told = _requests(totals)
        return told if copies is None else told | {"copies": _requests(copies)}

    def _shadows(self) -> dict[str, Any]:
        """Return what became of copies, where a route has some made."""
        counts = dataclasses.asdict(self._copies.counts)
        return {"shadows": counts} if any(counts.values()) else {}


def _together(versions: Iterable[ModelStatistics]) -> ModelStatistics:
    """Add up what the loaded versions of a model do and did."""
    told = [dataclasses.astuple(one) for one in versions]
    names = [field.name for field in dataclasses.fields(ModelStatistics)]
    sums = dict(zip(names, map(sum, zip(*told, strict=True)), strict=True)) if told else {}
    whole = ModelStatistics(**(dict.fromkeys(names, 0) | sums))
    runs = whole.runs
    return dataclasses.replace(whole, mean_batch_rows=whole.rows / runs if runs else 0.0)


def _kept(loaded: Iterable[Model]) -> dict[str, Any]:
    """Add up what the result caches of loaded versions do and did, where any has one."""
    told = [dataclasses.asdict(one.cache.statistics()) for one in loaded if one.cache is not None]
    return {"cache": {name: sum(one[name] for one in told) for name in told[0]}} if told else {}


def _requests(totals: Totals) -> dict[str, Any]:
    return {
        "total_requests": totals.succeeded + totals.failed,
        "successful_requests": totals.succeeded,
        "failed_requests": totals.failed,
        "total_inference_time": totals.compute_s,
        "avg_inference_time": totals.compute_s / totals.succeeded if totals.succeeded else 0.0,
    }


def _totals(totals: Totals, uptime_s: float) -> dict[str, Any]:
    total = totals.succeeded + totals.failed
    return _requests(totals) | {
        "uptime_seconds": uptime_s,
        "requests_per_second": total / uptime_s if uptime_s else 0.0,
        "success_rate": totals.succeeded / total if total else 0.0,
    }


def _inside(statistics: ModelStatistics) -> dict[str, Any]:
    return {
        "queue": {
            "requests": statistics.queued_requests,
            "rows": statistics.queued_rows,
            "bytes": statistics.queued_bytes,
            "expired": statistics.expired,
            "cancelled": statistics.cancelled,
            "refused_full": statistics.refused_full,
        },
        "batches": {
            "running": statistics.running,
            "runs": statistics.runs,
            "rows": statistics.rows,
            "mean_rows": statistics.mean_batch_rows,
        },
        "instances": {"all": statistics.instances, "alive": statistics.alive},
        "restarts": statistics.restarts,
        "worker_bytes": statistics.worker_bytes,
    }
