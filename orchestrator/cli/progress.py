"""What is seen of a job while it is waited for: a line that is drawn again, or a line for every change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from orchestrator.cli.failure import Failure
from orchestrator.cli.job_history import History, polls
from orchestrator.cli.terminal import Record, Terminal, clean, span


class View(Protocol):
    """Somebody's view of a job."""

    def changed(self, job: Record) -> None:
        """The job is another than it was."""

    def heard(self, past: History) -> None:
        """More is known of its history."""

    def lost(self, failure: Failure) -> None:
        """The server cannot be asked just now."""


@dataclass(slots=True)
class Lines:
    """A line for every state."""

    terminal: Terminal
    seen: set[str]
    away: bool = False

    def changed(self, job: Record) -> None:
        self.away = False
        if job["status"] not in self.seen:
            self.seen.add(job["status"])
            self.terminal.notice(f"  {job['id']} {job['status']}")

    def heard(self, past: History) -> None:
        self.away = False

    def lost(self, failure: Failure) -> None:
        if not self.away:
            self.terminal.notice(f"{failure.message}; trying again until it answers", "yellow")
        self.away = True


@dataclass(slots=True)
class Bar:
    """One line: state, progress where the vendor says it, time, and when it was last heard of."""

    progress: Progress
    task: Task = field(init=False)

    def __post_init__(self) -> None:
        number = self.progress.add_task("", total=None, said="", past=None)
        self.task = self.progress.tasks[number]

    def changed(self, job: Record) -> None:
        done = job.get("progress")
        total = None if done is None else 100
        self.progress.update(
            self.task.id,
            description=clean(job["status"]),
            total=total,
            completed=done or 0,
            said="",
        )

    def heard(self, past: History) -> None:
        self.progress.update(self.task.id, past=past, said=past.trouble)

    def lost(self, failure: Failure) -> None:
        self.progress.update(self.task.id, said="the server does not answer")


class Percent(ProgressColumn):
    """How far the vendor says it is; nothing where it does not."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}%")


class Heard(ProgressColumn):
    """When the vendor last told us something, and how often it had to be asked."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._now = now

    def render(self, task: Task) -> Text:
        past: History | None = task.fields["past"]
        if task.fields["said"]:
            return Text(
                clean(task.fields["said"]), style="yellow", no_wrap=True, overflow="ellipsis"
            )
        if past is None:
            return Text("")
        pushed = "no push yet"
        if past.last_push is not None:
            ago = max(0, round((self._now() - past.last_push).total_seconds()))
            pushed = f"last push {span(ago) if ago >= 60 else f'{ago} s'} ago"
        return Text(
            f"{pushed} · {polls(past.polls)}", style="dim", no_wrap=True, overflow="ellipsis"
        )


@contextlib.contextmanager
def view(terminal: Terminal, job: Record, now: Callable[[], datetime]) -> Iterator[View]:
    """Show a job until the end of the block, on stderr."""
    if not terminal.live:
        yield Lines(terminal, {job["status"]})
        return
    columns = (
        TextColumn(" "),
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        Percent(),
        TimeElapsedColumn(),
        Heard(now),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = Bar(progress)
        bar.changed(job)
        yield bar
