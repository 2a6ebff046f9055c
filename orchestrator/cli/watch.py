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
from orchestrator.cli.job_history import TELLERS
from orchestrator.cli.lookup import JOB, find
from orchestrator.cli.terminal import Record, Terminal, clean, moment
from orchestrator.cli.wait import is_final

#: Seconds between looks at the progress of jobs that are under way, and how many are looked at.
_LOOK, _LOOKED = 4, 10
#: Rows of the table: of those that are final, the newest.
_ROWS = 20
#: Jobs that are remembered; with --all there is no end of them.
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
    """Jobs that are watched, and what is told of each change: a table that is drawn again, or lines of data."""

    terminal: Terminal
    jobs: dict[str, Record] = field(default_factory=dict)
    drawn: Live | None = None

    def put(self, job: Record) -> None:
        """Take a job as it now is; older news of it are none."""
        before = self.jobs.get(job["id"])
        if before is not None and (job["version"] <= before["version"] or is_final(before)):
            return
        self.jobs[job["id"]] = job
        if len(self.jobs) > _KEPT:
            del self.jobs[
                next((name for name, one in self.jobs.items() if is_final(one)), job["id"])
            ]
        if self.drawn is not None:
            self.drawn.update(self.table())
        elif before is None or before["status"] != job["status"]:
            self._line(job)

    def _line(self, job: Record) -> None:
        if self.terminal.json:
            self.terminal.line(job)
        elif self.terminal.quiet:
            if is_final(job):
                self.terminal.say(job["id"])
        else:
            self.terminal.styled(
                f"{job['id']}  ",
                (f"{job['status']:<10}", _STYLES.get(job["status"], "")),
                _said(job),
            )

    def table(self) -> Table:
        """Return the jobs under way, and below them those that ended last, as far as there is room."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("JOB", no_wrap=True, width=30)
        table.add_column("STATUS", no_wrap=True, width=15)
        # On a narrow terminal these two give way: a table takes room from what may wrap, and their cells do not.
        table.add_column("ACCOUNT")
        table.add_column("WHAT")
        live = [job for job in self.jobs.values() if not is_final(job)]
        final = sorted(
            (job for job in self.jobs.values() if is_final(job)),
            key=lambda job: str(job["finished_at"]),
        )
        rows = max(2, min(_ROWS, Console().height - 4))
        room = max(1, rows - len(live))
        for job in [*live[:rows], *final[-room:]]:
            done = (
                "" if job.get("progress") is None or is_final(job) else f" {job['progress']:.0f}%"
            )
            status = Text(f"{job['status']}{done}", style=_STYLES.get(job["status"], ""))
            words = (
                Text(clean(one), no_wrap=True, overflow="ellipsis")
                for one in (job["account"], _said(job).strip())
            )
            table.add_row(Text(job["id"]), status, *words)
        if (hidden := len(live) - rows) > 0:
            table.add_row(Text(f"and {hidden} more under way", style="dim"))
        return table


def _said(job: Record) -> str:
    """Return in a few words how a job stands."""
    if not is_final(job):
        return ""
    error = job.get("error") or {}
    words = error.get("code") or TELLERS.get(str(job.get("resolved_by")), "")
    return f"  {clean(words)}  {moment(job['finished_at'])[11:]}".rstrip()


def register(jobs: typer.Typer) -> None:
    """Add the command to those of jobs."""
    command(
        jobs, "watch", "orchestrator jobs ls --status processing -q | orchestrator jobs watch -"
    )(watch)


def watch(
    session: Session,
    jobs: WatchedIds = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All there are and all to come, until Ctrl-C.")
    ] = False,
) -> None:
    """Watch jobs until all of them are final: exit 6 if one did not succeed.

    On a terminal as a table; elsewhere a line for every change, with --json a document on each line.
    """
    session.terminal.streaming = True
    if bool(jobs) == everything:
        raise typer.BadParameter("name jobs to watch, or --all")
    with session.client() as client:
        # The place first: what happens while jobs are read is told again rather than not at all.
        place = log.end(client)
        named = [find(client, JOB, one) for one in several(jobs or [])]
        board = Board(session.terminal)
        try:
            with _drawn(board):
                for job in (
                    client.get("/v1/jobs", limit=_ROWS)["data"][::-1] if everything else named
                ):
                    board.put(job)
                _follow(session, client, board, place, until_final=not everything)
        except KeyboardInterrupt:
            raise Failure("stopped watching; the jobs go on", code=Exit.INTERRUPTED) from None
    ended = [one for one in board.jobs.values() if one["status"] != "succeeded"]
    if ended:
        message = ", ".join(f"{one['id']} {one['status']}" for one in ended[:5])
        hint = f"orchestrator jobs show {ended[0]['id']} --timeline"
        raise Failure(
            f"{len(ended)} of {len(board.jobs)} did not succeed: {message}",
            hint=hint,
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
    session: Session, client: Client, board: Board, place: str, *, until_final: bool
) -> None:
    """Put what happens on the board, until all that is on it is final if that is wanted, else until Ctrl-C."""

    def lost(failure: Failure) -> None:
        session.terminal.notice(f"{failure.message}; trying again until it answers", "yellow")

    looked = time.monotonic()
    if until_final and all(map(is_final, board.jobs.values())):
        return
    for part in log.follow(client, place, "job.*", lost, hold=_LOOK):
        for event in part.events:
            if not until_final or event["job"] in board.jobs:
                board.put(event["data"])
        if time.monotonic() - looked >= _LOOK - 1 or part.back or part.gap:
            _look(client, board, None if part.gap else _LOOKED)
            looked = time.monotonic()
        if board.drawn is not None:
            board.drawn.refresh()
        if until_final and all(map(is_final, board.jobs.values())):
            return


def _look(client: Client, board: Board, most: int | None) -> None:
    """Ask for jobs under way: their progress makes no events."""
    for job in [one for one in board.jobs.values() if not is_final(one)][:most]:
        try:
            board.put(client.get(f"/v1/jobs/{job['id']}"))
        except Failure as failure:
            if failure.later is None:
                raise
            return
