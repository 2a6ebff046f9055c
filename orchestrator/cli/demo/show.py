"""Progress of the demo on stderr: a line per finished job, and a live table on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.cli.terminal import clean
from orchestrator.schemas import Delivery, Job

MARKS = {"succeeded": "✓", "failed": "✗", "expired": "✗", "canceled": "✗"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All jobs and deliveries, `seconds` after the start."""

    jobs: Sequence[Job]
    deliveries: Sequence[Delivery]
    seconds: float = 0.0

    def arrived(self) -> Counter[str | None]:
        """Return the number of delivered events per job."""
        return Counter(row.job for row in self.deliveries if row.status == "delivered")


@dataclass(slots=True)
class Show:
    """Prints on stderr. A job is printed once, when all `subscribers` have its completion."""

    labels: dict[str, str]
    subscribers: int
    console: Console = field(default_factory=lambda: Console(stderr=True))
    _printed: set[str] = field(default_factory=set)
    _live: Live | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the table on the screen, on a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as self._live:
            yield

    def say(self, words: str) -> None:
        """Print a line."""
        self.console.print(Text(clean(words)), soft_wrap=True)

    def update(self, snapshot: Snapshot) -> None:
        """Print what is new."""
        arrived = snapshot.arrived()
        for job in snapshot.jobs:
            complete = job.is_final and arrived[job.id] >= self.subscribers
            if complete and job.id not in self._printed:
                self._printed.add(job.id)
                self.say(self._line(job, arrived[job.id]))
        if self._live:
            self._live.update(Group(Text(""), _table(snapshot)))

    def _line(self, job: Job, arrived: int) -> str:
        took = (job.finished_at - job.created_at).total_seconds() if job.finished_at else 0.0
        mark, label = MARKS.get(job.status, "?"), self.labels.get(job.id, "")
        result = f"by {job.resolved_by}, {arrived} delivered"
        return f"  {mark} {job.account:<17} {label:<20} {took:4.1f} s  {result}"


def _table(snapshot: Snapshot) -> Table:
    """Return a line per account: jobs, how they were resolved, deliveries."""
    table = Table(
        "account", "jobs", "final", "by push", "by poll", "delivered", box=None, header_style="bold"
    )
    arrived = snapshot.arrived()
    for account in sorted({job.account for job in snapshot.jobs}):
        jobs = [job for job in snapshot.jobs if job.account == account]
        by = Counter(str(job.resolved_by) for job in jobs)
        final = sum(job.is_final for job in jobs)
        delivered = sum(arrived[job.id] for job in jobs)
        style = "green" if final == len(jobs) else ""
        cells = (account, len(jobs), final, by["push"], by["poll"], delivered)
        table.add_row(*map(str, cells), style=style)
    table.caption = f"{snapshot.seconds:.0f} s"
    return table
