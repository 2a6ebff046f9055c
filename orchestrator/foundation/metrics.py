"""Prometheus metrics of this process: counters and histograms, made once for each application.

Label values come from small sets: vendors, kinds, states. Never an id or a URL, but for a bounded
number of subscribers (`api/database_gauges`). Callers name models, so only the first `_MODELS` of
them get a label of their own.

Processes that share a port give the same answer: where `PROMETHEUS_MULTIPROC_DIR` names a folder
when this module is first imported, the client library keeps the values of each process in a file
there, and a scrape of any process adds them up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Generic, TypedDict, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from orchestrator import __version__
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import CutOff, Exchange, NotSent, Refused
from orchestrator.foundation.process_usage import cpu_seconds, resident_bytes

MetricT = TypeVar("MetricT", bound=MetricWrapperBase)

#: Names the folder in which processes that share a port keep their values.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
#: Read once: the client library too reads it when it is imported.
_SHARED = os.environ.get(FOLDER)
_PREFIX = "orchestrator_"
#: Models with a label of their own; the others are `other`.
_MODELS = 50
_HTTP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RENDERS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600)
_LAGS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86400)


class EndedJob(TypedDict):
    """The columns of a final job that metrics read."""

    vendor: str
    state: str
    resolved_by: str | None
    created_at: datetime
    finished_at: datetime | None
    vendor_updated_at: datetime | None


class Labeled(Generic[MetricT]):
    """A metric whose children are cached by label values.

    A look-up in the client library takes longer than an increment.
    """

    def __init__(self, metric: MetricT) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], MetricT] = {}

    def __call__(self, *labels: str) -> MetricT:
        """Return the child with these label values."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child


class Metrics:
    """The instruments, counted from the start of the process."""

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        self._models: set[str] = set()
        counter, histogram, gauge = self._counter, self._histogram, self._gauge
        self.requests = counter("http_requests", "HTTP requests answered.", "route method status")
        self.request_seconds = histogram(
            "http_request_duration_seconds", "Until a response begins.", _HTTP, "route method"
        )
        self._submitted = counter("jobs_submitted", "Jobs created.", "vendor model")
        self._finished = counter("jobs_finished", "Jobs that ended.", "vendor status resolved_by")
        self._job_seconds = histogram(
            "job_duration_seconds", "From creation to the final state.", _RENDERS, "vendor status"
        )
        self._exchanges = counter(
            "vendor_requests", "Requests to vendors.", "vendor operation outcome"
        )
        self._exchange_seconds = histogram(
            "vendor_request_duration_seconds", "Until the response ends.", _HTTP, "vendor operation"
        )
        self.pushes = counter("pushes_received", "Pushes of vendors.", "vendor result")
        self._push_lag = histogram(
            "push_lag_seconds", "From a final state at the vendor to its push.", _LAGS, "vendor"
        )
        self._missed = counter("push_missed", "Final states without the expected push.", "vendor")
        self.polls = counter("polls", "Jobs in status queries.", "vendor result")
        self._saves = counter("poll_saves", "Final states found by a status query.", "vendor")
        self._deliveries = counter("deliveries", "Delivery attempts.", "kind result")
        self._attempt_seconds = histogram(
            "delivery_attempt_duration_seconds", "Until the response ends.", _HTTP, "kind"
        )
        self._delivery_lag = histogram(
            "delivery_lag_seconds", "From an event to its delivery.", _LAGS, "kind"
        )
        self.disabled = counter("subscriber_disabled", "Subscribers disabled.", "reason")
        self._lag = gauge("scheduler_lag_seconds", "Lateness of the last tick.", "livemax")
        self.log_lines_dropped = self._plain("log_lines_dropped", "Log lines not written.")
        self._cpu, self._cpu_counted = self._plain("process_cpu_seconds", "CPU time."), 0.0
        self._memory = gauge("process_resident_memory_bytes", "Resident memory.", "livesum")
        self.public_url_reachable = gauge(
            "public_url_reachable", "1 while callbacks through the public URL arrive.", "livemin"
        )
        self.public_url_reachable.set(1)
        self.sse_clients = gauge("sse_clients", "Open event streams.", "livesum")
        gauge("build_info", "The version.", "max", "version").labels(__version__).set(1)

    def _plain(self, name: str, text: str) -> Counter:
        return Counter(_PREFIX + name, text, registry=self._own)

    def _counter(self, name: str, text: str, labels: str) -> Labeled[Counter]:
        return Labeled(Counter(_PREFIX + name, text, labels.split(), registry=self._own))

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: str
    ) -> Labeled[Histogram]:
        return Labeled(
            Histogram(_PREFIX + name, text, labels.split(), registry=self._own, buckets=buckets)
        )

    def _gauge(self, name: str, text: str, mode: Any, labels: str = "") -> Gauge:
        return Gauge(
            _PREFIX + name, text, labels.split(), registry=self._own, multiprocess_mode=mode
        )

    def submitted(self, vendor: str, model: str) -> None:
        """Count a job that was created."""
        if model not in self._models:
            if len(self._models) >= _MODELS:
                model = "other"
            self._models.add(model)
        self._submitted(vendor, model).inc()

    def ended(self, job: EndedJob, *, pushes: bool) -> None:
        """Count a job that became final. `pushes`: its vendor sends pushes."""
        vendor, status, source = job["vendor"], job["state"], job["resolved_by"]
        finished, reported = job["finished_at"], job["vendor_updated_at"]
        assert source is not None
        assert finished is not None
        self._finished(vendor, status, source).inc()
        # Two clocks are compared; a negative duration would make the sum fall.
        seconds = (finished - job["created_at"]).total_seconds()
        self._job_seconds(vendor, status).observe(max(seconds, 0.0))
        if source == "push" and reported is not None:
            self._push_lag(vendor).observe(max((finished - reported).total_seconds(), 0.0))
        if source == "poll":
            self._saves(vendor).inc()
            if pushes:
                self._missed(vendor).inc()

    @contextlib.contextmanager
    def exchange(self, clock: Clock, vendor: str, operation: str) -> Iterator[None]:
        """Measure a request to a vendor, and count its outcome."""
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
            self._exchanges(vendor, operation, outcome).inc()
            self._exchange_seconds(vendor, operation).observe(clock.monotonic() - began)

    def ticked(self, lag: float) -> None:
        """Note by how many seconds the last tick came late, and what the process uses."""
        self._lag.set(lag)
        cpu, memory = cpu_seconds(), resident_bytes()
        self._cpu.inc(max(cpu - self._cpu_counted, 0.0))
        self._cpu_counted = cpu
        if memory is not None:
            self._memory.set(memory)

    def attempted(self, kind: str, result: str, seconds: float, lag: float | None) -> None:
        """Count a delivery attempt. `lag`: seconds since its event, if it was delivered."""
        self._deliveries(kind, result).inc()
        self._attempt_seconds(kind).observe(seconds)
        if lag is not None:
            self._delivery_lag(kind).observe(max(lag, 0.0))

    @property
    def names(self) -> frozenset[str]:
        """The names of all samples."""
        return sample_names(self._own.collect())

    def exposition(self, more: Collector) -> bytes:
        """Return all metrics, and those of `more`, in Prometheus text format. Thread-safe."""
        registry = CollectorRegistry()
        registry.register(_WithoutCreated(self._own) if _SHARED is None else _OursOnly(_SHARED))
        registry.register(more)
        return generate_latest(registry)


def sample_names(metrics: Iterable[Metric]) -> frozenset[str]:
    """Return the names of the samples of metrics."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return frozenset(
        metric.name + suffix for metric in metrics for suffix in suffixes.get(metric.type, ("",))
    )


class _WithoutCreated(Collector):
    """A registry without the `_created` samples: one for each series, and unused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample for sample in metric.samples if not sample.name.endswith("_created")
            ]
            yield metric


class _OursOnly(Collector):
    """Our metrics of all processes in a folder, where a host application may keep its own too."""

    def __init__(self, folder: str) -> None:
        self._all = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        for metric in self._all.collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith(_PREFIX):
                yield metric


_OUTCOMES: Mapping[type[Exchange], str] = {
    NotSent: "not_sent",
    Refused: "refused",
    CutOff: "cut_off",
}
