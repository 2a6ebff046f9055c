"""`orchestrator jobs watch`: jobs as they change, until all that were named are final."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.cli import log
from orchestrator.cli.batch import several
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import JOBS
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.job_history import RESOLUTIONS
from orchestrator.cli.lookup import JOB, find
from orchestrator.cli.terminal import Terminal, moment, one_line
from orchestrator.schemas import Job

#: Seconds between reads of running jobs' progress, and the number of jobs read.
_LOOK, _LOOKED = 4, 10
#: Rows of the table; of the final jobs, the newest.
_ROWS = 20
#: Jobs kept in memory; with --all they never end.
_KEPT = 5000
_STYLES = {
    "succeeded": "green",
    "failed": "bold red",
    "expired": "red",
    "canceled": "yellow",
    "processing": "cyan",
}
WatchedIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOB", help="Ids, or beginnings of them; - reads stdin.", autocompletion=JOBS
    ),
]


@dataclass(slots=True)
class Board:
    """Watched jobs: a table that is redrawn, or a line per change."""

    terminal: Terminal
    jobs: dict[str, Job] = field(default_factory=dict)
    drawn: Live | None = None

    @property
    def running(self) -> list[Job]:
        """The jobs that are not final."""
        return [job for job in self.jobs.values() if not job.is_final]

    def put(self, job: Job) -> None:
        """Show a job, unless a newer version is known."""
        before = self.jobs.get(job.id)
        if before is not None and (job.version <= before.version or before.is_final):
            return
        self.jobs[job.id] = job
        if len(self.jobs) > _KEPT:
            oldest = (name for name, kept in self.jobs.items() if kept.is_final)
            del self.jobs[next(oldest, job.id)]
        if self.drawn is not None:
            self.drawn.update(self.table())
        elif before is None or before.status != job.status:
            self._print(job)

    def _print(self, job: Job) -> None:
        if self.terminal.json:
            self.terminal.line(job)
        elif self.terminal.quiet:
            if job.is_final:
                self.terminal.say(job.id)
        else:
            status = (f"{job.status:<10}", _STYLES.get(job.status, ""))
            ending = _ending(job)
            self.terminal.styled(f"{job.id}  ", status, f"  {ending}" if ending else "")

    def table(self) -> Table:
        """Return the running jobs, and below them the last final ones, as many as fit."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("JOB", no_wrap=True, width=30)
        table.add_column("STATUS", no_wrap=True, width=15)
        # On a narrow terminal these two shrink: rich takes room from columns that may wrap, and
        # their cells do not.
        table.add_column("ACCOUNT")
        table.add_column("WHAT")
        running = self.running
        final = sorted(
            (job for job in self.jobs.values() if job.is_final),
            key=lambda job: str(job.finished_at),
        )
        rows = max(2, min(_ROWS, Console().height - 4))
        room = max(1, rows - len(running))
        for job in [*running[:rows], *final[-room:]]:
            done = "" if job.progress is None or job.is_final else f" {job.progress}%"
            status = Text(one_line(f"{job.status}{done}"), style=_STYLES.get(job.status, ""))
            texts = (
                Text(one_line(text), no_wrap=True, overflow="ellipsis")
                for text in (job.account, _ending(job))
            )
            table.add_row(Text(one_line(job.id)), status, *texts)
        if (hidden := len(running) - rows) > 0:
            table.add_row(Text(f"and {hidden} more running", style="dim"))
        return table


def _ending(job: Job) -> str:
    """Return how and when a job ended; empty while it runs."""
    if not job.is_final:
        return ""
    how = job.error.code if job.error else RESOLUTIONS.get(str(job.resolved_by), "")
    return f"{how}  {moment(job.finished_at)[11:]}".strip()


def register(jobs: typer.Typer) -> None:
    """Add the command to those of jobs."""
    command(
        jobs, "watch", "orchestrator jobs ls --status processing -q | orchestrator jobs watch -"
    )(watch)


def watch(
    session: Session,
    jobs: WatchedIds = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All jobs, new ones too, until Ctrl-C.")
    ] = False,
) -> None:
    """Watch jobs until all of them are final: exit 6 if one did not succeed.

    On a terminal as a table; elsewhere a line per change, with --json a document per line.
    """
    session.terminal.streaming = True
    if bool(jobs) == everything:
        raise typer.BadParameter("name jobs to watch, or --all")
    with session.client() as client:
        # The cursor first: a change while jobs are read is then seen twice instead of never.
        cursor = log.end(client)
        board = Board(session.terminal)
        watched = [find(client, JOB, word) for word in several(jobs or [])]
        try:
            with _drawn(board):
                if everything:
                    watched = client.get(JOB.page, JOB.path, limit=_ROWS).data[::-1]
                for job in watched:
                    board.put(job)
                _follow(session, client, board, cursor, until_final=not everything)
        except KeyboardInterrupt:
            raise Failure("stopped watching; the jobs go on", code=Exit.INTERRUPTED) from None
    failed = [job for job in board.jobs.values() if job.status != "succeeded"]
    if failed:
        listed = ", ".join(f"{job.id} {job.status}" for job in failed[:5])
        raise Failure(
            f"{len(failed)} of {len(board.jobs)} did not succeed: {listed}",
            hint=f"orchestrator jobs show {failed[0].id} --timeline",
            code=Exit.JOB_FAILED,
        )


@contextlib.contextmanager
def _drawn(board: Board) -> Iterator[None]:
    terminal = board.terminal
    console = Console()
    if not (terminal.live and console.is_terminal) or terminal.json or terminal.quiet:
        yield
        return
    with Live(board.table(), console=console, auto_refresh=False) as board.drawn:
        board.drawn.refresh()
        yield


def _follow(
    session: Session, client: Client, board: Board, cursor: str, *, until_final: bool
) -> None:
    """Show changes, until all jobs on the board are final (`until_final`) or until Ctrl-C."""

    def unreachable(failure: Failure) -> None:
        session.terminal.notice(f"{failure.message}; trying again until it answers", "yellow")

    looked = time.monotonic()
    if until_final and not board.running:
        return
    for batch in log.follow(client, cursor, "job.*", unreachable, hold=_LOOK):
        for event in batch.events:
            if not until_final or event.job_id in board.jobs:
                board.put(client.read(Job, event.data))
        if time.monotonic() - looked >= _LOOK - 1 or batch.back or batch.gap:
            _look(client, board, None if batch.gap else _LOOKED)
            looked = time.monotonic()
        if board.drawn is not None:
            board.drawn.refresh()
        if until_final and not board.running:
            return


def _look(client: Client, board: Board, most: int | None) -> None:
    """Read running jobs: progress makes no events."""
    for job in board.running[:most]:
        try:
            board.put(client.get(Job, f"{JOB.path}/{job.id}"))
        except Failure as failure:
            if failure.later is None:
                raise
            return
