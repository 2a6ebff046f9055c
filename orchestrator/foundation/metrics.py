"""What Prometheus is told of this process: counters and histograms, made once for each application.

Labels are few and come from sets that are: vendors, kinds, states. Never an id or a URL. Of models, which callers name,
so many get a label of their own.

Processes that share a port share one answer too: where `PROMETHEUS_MULTIPROC_DIR` names a folder when this is first
imported, the client library keeps every process's numbers in a file there, and a scrape of any one adds them up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from orchestrator import __version__
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import CutOff, Exchange, NotSent, Refused

MetricT = TypeVar("MetricT", bound=MetricWrapperBase)
Row = Mapping[Any, Any]

#: Where processes that serve one port keep their numbers.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
#: The library too looks once, when it is imported.
_SHARED = os.environ.get(FOLDER)
_PREFIX = "orchestrator_"
#: Models with a label of their own; the others are `other`.
_MODELS = 50
_HTTP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RENDERS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600)
_LAGS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400)


class Family(Generic[MetricT]):
    """A metric by its labels. Looking one up in the client library takes longer than counting."""

    def __init__(self, metric: MetricT) -> None:
        self._metric = metric
        self._known: dict[tuple[str, ...], MetricT] = {}

    def __call__(self, *labels: str) -> MetricT:
        """Return the one with these labels."""
        known = self._known.get(labels)
        if known is None:
            known = self._known[labels] = self._metric.labels(*labels)
        return known


class Metrics:
    """The instruments, by name. Those of processes are counted from their start."""

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        self._models: set[str] = set()
        self._made()

    def _made(self) -> None:
        self.requests = self._counter(
            "http_requests", "HTTP requests answered.", "route", "method", "status"
        )
        self.request_seconds = self._histogram(
            "http_request_duration_seconds", "Until an answer begins.", _HTTP, "route", "method"
        )
        self._submitted = self._counter("jobs_submitted", "Jobs taken on.", "vendor", "model")
        self._finished = self._counter(
            "jobs_finished", "Jobs that ended.", "vendor", "status", "resolved_by"
        )
        self._job_seconds = self._histogram(
            "job_duration_seconds", "From being taken on to the end.", _RENDERS, "vendor", "status"
        )
        self._asked = self._counter(
            "vendor_requests", "Requests to vendors.", "vendor", "operation", "outcome"
        )
        self._asked_seconds = self._histogram(
            "vendor_request_duration_seconds",
            "Until a vendor's whole answer.",
            _HTTP,
            "vendor",
            "operation",
        )
        self.pushes = self._counter("pushes_received", "Vendors' pushes.", "vendor", "result")
        self._push_lag = self._histogram(
            "push_lag_seconds",
            "From the vendor's own time of an end to our knowing it, by push.",
            _LAGS,
            "vendor",
        )
        self._missed = self._counter(
            "push_missed", "Ends that no push told of, although they should.", "vendor"
        )
        self.polls = self._counter(
            "polls", "Jobs that a vendor was asked about.", "vendor", "result"
        )
        self._saves = self._counter("poll_saves", "Ends that only a question found.", "vendor")
        self._deliveries = self._counter("deliveries", "Attempts at deliveries.", "kind", "result")
        self._attempt_seconds = self._histogram(
            "delivery_attempt_duration_seconds", "Until a subscriber's whole answer.", _HTTP, "kind"
        )
        self._delivery_lag = self._histogram(
            "delivery_lag_seconds", "From an event to its delivery.", _LAGS, "kind"
        )
        self.disabled = self._counter(
            "subscriber_disabled", "Subscribers that were switched off.", "reason"
        )
        self.scheduler_lag = self._gauge(
            "scheduler_lag_seconds", "By how much the last tick came late.", "livemax"
        )
        self.sse_clients = self._gauge("sse_clients", "Event streams that are open.", "livesum")
        build = Gauge(
            "orchestrator_build_info",
            "Which version this is.",
            ["version"],
            registry=self._own,
            multiprocess_mode="max",
        )
        build.labels(__version__).set(1)

    def _counter(self, name: str, says: str, *labels: str) -> Family[Counter]:
        return Family(Counter(f"orchestrator_{name}", says, labels, registry=self._own))

    def _histogram(
        self, name: str, says: str, buckets: tuple[float, ...], *labels: str
    ) -> Family[Histogram]:
        return Family(
            Histogram(f"orchestrator_{name}", says, labels, registry=self._own, buckets=buckets)
        )

    def _gauge(self, name: str, says: str, mode: Any) -> Gauge:
        return Gauge(f"orchestrator_{name}", says, registry=self._own, multiprocess_mode=mode)

    # -- what happened

    def submitted(self, vendor: str, model: str) -> None:
        """A job was taken on."""
        if model not in self._models:
            if len(self._models) >= _MODELS:
                model = "other"
            self._models.add(model)
        self._submitted(vendor, model).inc()

    def ended(self, row: Row, *, pushes: bool) -> None:
        """A job came to its end; its vendor `pushes`, or can only be asked."""
        vendor, status, by = row["vendor"], row["state"], row["resolved_by"]
        self._finished(vendor, status, by).inc()
        # Two clocks may have said when: sums never fall.
        self._job_seconds(vendor, status).observe(
            max((row["finished_at"] - row["created_at"]).total_seconds(), 0.0)
        )
        if by == "push" and row["vendor_updated_at"] is not None:
            lag = (row["finished_at"] - row["vendor_updated_at"]).total_seconds()
            self._push_lag(vendor).observe(max(lag, 0.0))
        if by == "poll":
            self._saves(vendor).inc()
            if pushes:
                self._missed(vendor).inc()

    @contextlib.contextmanager
    def exchange(self, clock: Clock, vendor: str, operation: str) -> Iterator[None]:
        """Measure a request to a vendor, and what came of it."""
        began, outcome = clock.monotonic(), "error"
        try:
            yield
            outcome = "accepted"
        except Exchange as error:
            outcome = next(
                (word for kind, word in _OUTCOMES.items() if isinstance(error, kind)), outcome
            )
            raise
        finally:
            self._asked(vendor, operation, outcome).inc()
            self._asked_seconds(vendor, operation).observe(clock.monotonic() - began)

    def attempted(self, kind: str, result: str, seconds: float, lag: float | None) -> None:
        """An attempt at a delivery ended; `lag`: so long after its event, if it was delivered."""
        self._deliveries(kind, result).inc()
        self._attempt_seconds(kind).observe(seconds)
        if lag is not None:
            self._delivery_lag(kind).observe(max(lag, 0.0))

    # -- what is told of it

    @property
    def names(self) -> frozenset[str]:
        """The names of everything here, as samples have them."""
        return frozenset(
            name
            for metric in self._own.collect()
            for name in _sample_names(metric)
            if not name.endswith("_created")
        )

    def page(self, more: Collector) -> bytes:
        """Return everything in Prometheus's text format, and what `more` collects besides. On any thread."""
        whole = CollectorRegistry()
        whole.register(_Plain(self._own) if _SHARED is None else _Ours(_SHARED))
        whole.register(more)
        return generate_latest(whole)


def _sample_names(metric: Metric) -> list[str]:
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
        metric.type, ("",)
    )
    return [metric.name + end for end in ends]


class _Plain(Collector):
    """A registry without the times at which its series began: there are as many as series, and nobody asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


class _Ours(Collector):
    """What all processes keep in a folder, as far as it is ours: a host that we are part of may keep its own there."""

    def __init__(self, folder: str) -> None:
        self._all = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]  # the library does not say

    def collect(self) -> Iterator[Metric]:
        for metric in self._all.collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith(_PREFIX):
                yield metric


_OUTCOMES: Mapping[type[Exchange], str] = {
    NotSent: "not_sent",
    Refused: "refused",
    CutOff: "cut_off",
}
