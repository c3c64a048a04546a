"""Figures for Prometheus: requests of this process, and the ledger's exact totals.

No label ever holds a user, an item or a decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from promo_ray.decisions.accounts import Receipt
from promo_ray.decisions.feedback import FeedbackStatus
from promo_ray.decisions.group_commit import LedgerUnavailableError
from promo_ray.decisions.service import DecisionService

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_PREFIX = "promo_ray"


class _LedgerTotals(Collector):
    """Budgets, feedback and the active bundle, read when they are asked for."""

    def __init__(self, service: DecisionService) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        budgets = GaugeMetricFamily(
            f"{_PREFIX}_budget_minor_units",
            "Budget of a campaign by part: total, confirmed, reserved.",
            labels=("campaign", "budget", "part"),
        )
        events = GaugeMetricFamily(
            f"{_PREFIX}_feedback_events",
            "Events on record by campaign and name.",
            labels=("campaign", "name"),
        )
        try:
            for line in self._service.ledger.budgets():
                for part in ("total", "confirmed", "reserved"):
                    budgets.add_metric((line.campaign, line.name, part), getattr(line, part))
            for (campaign, name), (n, _) in self._service.ledger.counters().items():
                events.add_metric((campaign, name), n)
        except LedgerUnavailableError:
            return
        yield budgets
        yield events


class ServiceMetrics:
    """Counters of one process."""

    def __init__(self, service: DecisionService) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_LedgerTotals(service))
        self._requests = Histogram(
            f"{_PREFIX}_request_seconds",
            "Time from the headers of a request to the end of its answer.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._decisions = Counter(
            f"{_PREFIX}_decisions",
            "Decisions by campaign and what the ledger said.",
            ("campaign", "outcome"),
            registry=self._registry,
        )
        self._feedback = Counter(
            f"{_PREFIX}_feedback",
            "Events received by what became of them.",
            ("status",),
            registry=self._registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def count_decisions(self, campaign: str, receipts: Iterable[Receipt]) -> None:
        """Count answers."""
        for receipt in receipts:
            self._decisions.labels(campaign, str(receipt.outcome or "repeated")).inc()

    def count_feedback(self, statuses: Iterable[FeedbackStatus]) -> None:
        """Count events."""
        for status in statuses:
            self._feedback.labels(str(status)).inc()

    def text(self) -> bytes:
        """Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)
