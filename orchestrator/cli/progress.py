"""Progress of a job on stderr: a redrawn line on a terminal, else a line per change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

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
from orchestrator.cli.job_history import History
from orchestrator.cli.terminal import Terminal, counted, one_line, span
from orchestrator.schemas import Job


@dataclass(slots=True)
class Lines:
    """A line per state."""

    terminal: Terminal
    seen: set[str]
    away: bool = False

    def changed(self, job: Job) -> None:
        self.away = False
        if job.status not in self.seen:
            self.seen.add(job.status)
            self.terminal.notice(f"  {job.id} {job.status}")

    def reported(self, past: History) -> None:
        self.away = False

    def unreachable(self, failure: Failure) -> None:
        if not self.away:
            self.terminal.notice(f"{failure.message}; trying again until it answers", "yellow")
        self.away = True


@dataclass(slots=True)
class Bar:
    """One line: state, the vendor's progress, time, and the last report."""

    progress: Progress
    task: Task = field(init=False)

    def __post_init__(self) -> None:
        number = self.progress.add_task("", total=None, percent="", trouble="", past=None)
        self.task = self.progress.tasks[number]

    def changed(self, job: Job) -> None:
        self.progress.update(
            self.task.id,
            description=one_line(job.status),
            total=None if job.progress is None else 100,
            completed=job.progress or 0,
            percent="" if job.progress is None else f"{job.progress}%",
            trouble="",
        )

    def reported(self, past: History) -> None:
        self.progress.update(self.task.id, past=past, trouble=past.trouble)

    def unreachable(self, failure: Failure) -> None:
        self.progress.update(self.task.id, trouble="the server does not answer")


class LastReport(ProgressColumn):
    """The time since the last push, and the number of polls."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._now = now

    def render(self, task: Task) -> Text:
        past: History | None = task.fields["past"]
        if trouble := one_line(task.fields["trouble"]):
            return Text(trouble, style="yellow", no_wrap=True, overflow="ellipsis")
        if past is None:
            return Text("")
        pushed = "no push yet"
        if past.last_push is not None:
            ago = max(0, round((self._now() - past.last_push).total_seconds()))
            pushed = f"last push {span(ago) if ago >= 60 else f'{ago} s'} ago"
        words = f"{pushed} · {counted(past.polls, 'poll')}"
        return Text(words, style="dim", no_wrap=True, overflow="ellipsis")


View = Lines | Bar


@contextlib.contextmanager
def view(terminal: Terminal, job: Job, now: Callable[[], datetime]) -> Iterator[View]:
    """Show a job until the end of the block."""
    if not terminal.live:
        yield Lines(terminal, {job.status})
        return
    columns = (
        TextColumn(" "),
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[percent]}"),
        TimeElapsedColumn(),
        LastReport(now),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = Bar(progress)
        bar.changed(job)
        yield bar
