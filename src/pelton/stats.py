"""What `GET /stats` tells: the users' own names, and what goes on inside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pelton.engine.model import ModelStatistics
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


class Statistics:
    """Answers `GET /stats`."""

    def __init__(
        self,
        counters: Counters,
        models: Models,
        budget: MemoryBudget,
        refused: RefusedCounts,
        copies: Copies,
    ) -> None:
        self._copies = copies
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
            | {"models": {name: self._of_model(name) for name in self._models.names()}}
        )

    def _of_model(self, name: str) -> dict[str, Any]:
        model = self._models.table.route(name).model
        totals = self._counters.by_model().get(model, Totals())
        loaded = {one.version: one.statistics() for one in self._models.loaded(model)}
        told = _totals(totals, self._counters.uptime_s()) | _inside(_together(loaded.values()))
        if len(loaded) > 1:
            told["versions"] = {
                str(version): self._of_version(model, version) | _inside(loaded[version])
                for version in loaded
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
    }
