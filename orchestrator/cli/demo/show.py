"""What the demo tells while it runs: a line for every finished job, and a live table where somebody watches."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.cli.terminal import Record, clean
from orchestrator.cli.wait import is_final

MARKS = {"succeeded": "✓", "failed": "✗", "expired": "✗", "canceled": "✗"}


@dataclass(frozen=True, slots=True)
class Glance:
    """Everything the API says at one moment."""

    jobs: Sequence[Record]
    deliveries: Sequence[Record]
    seconds: float = 0.0

    def arrived(self) -> Counter[str]:
        """Return how many deliveries of each job have arrived."""
        return Counter(one["job"] for one in self.deliveries if one["status"] == "delivered")


@dataclass(slots=True)
class Show:
    """Tells it on stderr. A job is told of once, when everybody who wants to know it does."""

    labels: dict[str, str]
    listeners: int
    console: Console = field(default_factory=lambda: Console(stderr=True))
    _told: set[str] = field(default_factory=set)
    _live: Live | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Keep the table on the screen, if there is one."""
        if not sys.stderr.isatty():
            yield
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as self._live:
            yield

    def say(self, words: str) -> None:
        """Print a line."""
        self.console.print(Text(clean(words)), soft_wrap=True)

    def look(self, glance: Glance) -> None:
        """Tell what is new."""
        arrived = glance.arrived()
        for job in glance.jobs:
            if (
                is_final(job)
                and job["id"] not in self._told
                and arrived[job["id"]] >= self.listeners
            ):
                self._told.add(job["id"])
                self.say(self._line(job, arrived[job["id"]]))
        if self._live:
            self._live.update(Group(Text(""), _table(glance)))

    def _line(self, job: Record, arrived: int) -> str:
        took = seconds_between(job["created_at"], job["finished_at"])
        mark, label = MARKS.get(job["status"], "?"), self.labels.get(job["id"], "")
        told = f"by {job['resolved_by']}, {arrived} subscribers told"
        return f"  {mark} {job['account']:<17} {label:<20} {took:4.1f} s  {told}"


def seconds_between(earlier: str, later: str | None) -> float:
    """Return the seconds between two RFC 3339 times."""
    if later is None:
        return 0.0
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _table(glance: Glance) -> Table:
    """Return one line for each account: how far it is, and who told us."""
    table = Table(
        "account", "jobs", "final", "by push", "by poll", "told", box=None, header_style="bold"
    )
    arrived = glance.arrived()
    accounts = sorted({job["account"] for job in glance.jobs})
    for account in accounts:
        mine = [job for job in glance.jobs if job["account"] == account]
        by = Counter(job["resolved_by"] for job in mine)
        final = sum(map(is_final, mine))
        told = sum(arrived[job["id"]] for job in mine)
        style = "green" if final == len(mine) else ""
        cells = (account, len(mine), final, by["push"], by["poll"], told)
        table.add_row(*map(str, cells), style=style)
    table.caption = f"{glance.seconds:.0f} s"
    return table
