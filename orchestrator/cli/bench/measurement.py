"""What a bench is given and what it returns: every figure next to its limits, measured in one run.

A value is the median over rounds. A ratio compares figure and limit within one round, because
the speed of a machine drifts between rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from orchestrator.foundation.errors import OrchestratorError

T = TypeVar("T")
JsonObject = dict[str, Any]


class MeasurementFailed(OrchestratorError):
    """A run measured nothing: a process ended, or work did not complete. The message names it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure, how often, on which database, and what the database holds before."""

    #: URL of a PostgreSQL database (a schema is created and dropped), or of a SQLite file, whose
    #: folder selects the disk. Empty: the folder for temporary files.
    database: str = ""
    #: Seconds of each measurement, and how often each is repeated.
    seconds: float = 5.0
    rounds: int = 3
    #: Finished jobs with history. A bench with jobs of a kind of its own takes their number.
    jobs: int | None = None
    #: Rows of history (pushes, events, deliveries, attempts, traces), at least one each per job.
    history: int = 0
    #: Subscribers; all but one want other events.
    subscribers: int | None = None
    #: Accounts that share the load evenly.
    accounts: int | None = None
    #: Deliveries to a dead subscriber that wait for their next attempt.
    waiting: int | None = None
    #: Called with a line of progress.
    notify: Callable[[str], None] = lambda line: None


@dataclass(frozen=True, slots=True)
class Integrity:
    """Broken promises, counted; all zero where a figure is valid."""

    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0

    def __add__(self, other: Integrity) -> Integrity:
        return Integrity(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds, statements and commits of a process, and its resident bytes.

    `at` is monotonic seconds. A difference has the resident bytes of the later reading.
    """

    at: float = 0.0
    cpu: float = 0.0
    statements: int = 0
    commits: int = 0
    rss: int = 0

    def __sub__(self, earlier: Usage) -> Usage:
        spent = (a - b for a, b in zip(astuple(self), astuple(earlier), strict=True))
        return replace(Usage(*spent), rss=self.rss)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one round.

    `rate` is operations per second, `latencies` are seconds, `values` differ between benches.
    """

    operations: int
    rate: float = 0.0
    latencies: Sequence[float] = ()
    usage: Usage = Usage()
    integrity: Integrity = Integrity()
    values: Mapping[str, float] = field(default_factory=dict)

    def per_operation(self, amount: float) -> float:
        """Return an amount divided by the operations."""
        return amount / max(1, self.operations)

    def value(self, name: str) -> float:
        """Return one of the `values`."""
        return self.values[name]

    def latency_ms(self, share: float) -> float:
        """Return the quantile `share` of the latencies in milliseconds; 0.0 of none."""
        ordered = sorted(self.latencies) or [0.0]
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


Samples = Sequence[Sample]
Limits = Mapping[str, Samples]


def interleave(
    plan: Plan, name: str, measures: Mapping[str, Callable[[], T]]
) -> dict[str, list[T]]:
    """Run every measure once per round; return its results by name, one per round."""
    results: dict[str, list[T]] = {each: [] for each in measures}
    for number in range(plan.rounds):
        plan.notify(f"{name}: round {number + 1} of {plan.rounds}")
        for each, measure in measures.items():
            results[each].append(measure())
    return results


@dataclass(frozen=True, slots=True)
class Figure:
    """A value of every round, next to limits in the same unit.

    The name ends with the unit: `pushes_per_s`, `p99_ms`.
    """

    name: str
    rounds: Sequence[float]
    limits: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @staticmethod
    def of(
        name: str, value: Callable[[Sample], float], samples: Samples, limits: Limits | None = None
    ) -> Figure:
        """Return a figure that takes the same value of all samples, ours and the limits'."""
        compared = {limit: [value(s) for s in found] for limit, found in (limits or {}).items()}
        return Figure(name, [value(sample) for sample in samples], compared)

    def ratios(self, limit: str) -> list[float]:
        """Return figure / limit: smallest, median, largest of all rounds whose limit is not 0."""
        pairs = zip(self.rounds, self.limits[limit], strict=True)
        ratios = sorted(value / of for value, of in pairs if of)
        return [ratios[0], statistics.median(ratios), ratios[-1]] if ratios else []

    def document(self) -> JsonObject:
        """Return it as JSON, with four significant digits: the rest is noise."""
        limits: JsonObject = {}
        for name, rounds in self.limits.items():
            ratios = map(_significant, self.ratios(name))
            ratio = dict(zip(("min", "median", "max"), ratios, strict=False)) or None
            limits[name] = {"value": _significant(statistics.median(rounds)), "ratio": ratio}
        value = _significant(statistics.median(self.rounds))
        return {"value": value, "rounds": [*map(_significant, self.rounds)], "limits": limits}

    def lines(self) -> list[list[str]]:
        """Return rows of the table (see `HEADS`): one per limit, the first with the value."""
        rows = []
        for name, rounds in self.limits.items():
            ratio, ratios = "-", [*map(readable, self.ratios(name))]
            if ratios:
                ratio = ratios[1] + (f" ({ratios[0]}-{ratios[2]})" if len(rounds) > 1 else "")
            rows.append([readable(statistics.median(rounds)), name, ratio])
        first = [self.name.replace("_", " "), readable(statistics.median(self.rounds))]
        rows = rows or [["", "", ""]]
        return [[*(["", ""] if number else first), *row] for number, row in enumerate(rows)]


#: Columns of the table.
HEADS = ("figure", "value", "limit", "compared with", "ratio (min-max)")


@dataclass(frozen=True, slots=True)
class Result:
    """Operations and integrity over all rounds, figures, and what explains them (`more`)."""

    bench: str
    samples: Samples
    figures: Sequence[Figure]
    more: Mapping[str, Any] = field(default_factory=dict)
    #: Samples that are checked, and neither counted nor shown.
    unmeasured: Samples = ()

    @property
    def integrity(self) -> Integrity:
        """The sum over all samples."""
        every = [*self.samples, *self.unmeasured]
        return sum((sample.integrity for sample in every), Integrity())

    @property
    def operations(self) -> int:
        """The sum over the measured samples."""
        return sum(sample.operations for sample in self.samples)

    def document(self) -> JsonObject:
        """Return it as JSON."""
        return {
            "bench": self.bench,
            "operations": self.operations,
            "figures": {figure.name: figure.document() for figure in self.figures},
            **asdict(self.integrity),
            **({"more": dict(self.more)} if self.more else {}),
        }


def rate(name: str, samples: Samples, limits: Limits) -> Figure:
    """Return operations per second."""
    return Figure.of(name, lambda sample: sample.rate, samples, limits)


def latencies(
    samples: Samples,
    limits: Limits,
    shares: Sequence[float] = (0.5, 0.95, 0.99),
    name: str = "{}_ms",
) -> list[Figure]:
    """Return quantiles in milliseconds; `{}` in the name becomes `p50` and so on."""
    return [
        Figure.of(
            name.format(f"p{round(100 * share)}"),
            partial(Sample.latency_ms, share=share),
            samples,
            limits,
        )
        for share in shares
    ]


def costs(of: str, samples: Samples, limits: Limits | None = None) -> list[Figure]:
    """Return CPU, statements and commits per operation, and resident memory at the end.

    Only CPU has limits: their processes store nothing.
    """
    return [
        Figure.of(
            f"cpu_ms_per_{of}", lambda s: s.per_operation(1e3 * s.usage.cpu), samples, limits
        ),
        Figure.of(f"statements_per_{of}", lambda s: s.per_operation(s.usage.statements), samples),
        Figure.of(f"commits_per_{of}", lambda s: s.per_operation(s.usage.commits), samples),
        Figure.of("rss_mb", lambda s: s.usage.rss / (1 << 20), samples),
    ]


def _significant(number: float) -> float:
    return float(f"{number:.4g}")


def readable(number: float) -> str:
    """Return a number for the table."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.3g}"
