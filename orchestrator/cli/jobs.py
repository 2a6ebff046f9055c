"""`orchestrator jobs`: list and show jobs, cancel and refresh them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from orchestrator.cli.batch import Yes, confirm, each, is_single, several
from orchestrator.cli.client import Client
from orchestrator.cli.columns import Table
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import JOBS
from orchestrator.cli.job_deliveries import owed
from orchestrator.cli.job_filters import (
    ExternalId,
    OfAccount,
    OfFairnessKey,
    ResolvedBy,
    Since,
    Status,
    query,
)
from orchestrator.cli.job_history import known
from orchestrator.cli.job_record import reason, shown
from orchestrator.cli.job_waiting import waiting
from orchestrator.cli.lookup import JOB, find
from orchestrator.cli.options import After, Limit
from orchestrator.cli.terminal import Record
from orchestrator.schemas import Job, Page, TimelineEntry

app = typer.Typer(no_args_is_help=True, help="Look at jobs and steer them.")

TABLE = Table(
    Job,
    "id",
    "status",
    "account",
    "model",
    "capability",
    "created_at",
    "resolved_by",
    first=("id", "status", "account", "created"),
)
FAILED = Table(
    Job,
    "id",
    "status",
    "account",
    "created_at",
    "model",
    "capability",
    "resolved_by",
    ("reason", lambda job: reason(job.error)),
    first=("id", "status", "reason"),
)
TIMELINE = Table(TimelineEntry, "at", "kind", ("what", lambda entry: _details(entry)))
JobId = Annotated[
    str,
    typer.Argument(metavar="JOB", help="A job's id, or the beginning of one.", autocompletion=JOBS),
]
JobIds = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB", help="Ids, or beginnings of them; - reads stdin.", autocompletion=JOBS
    ),
]


def _details(entry: TimelineEntry) -> str:
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in (entry.model_extra or {}).items()
        if value not in (None, "", [], {})
    )


@command(app, "ls", "orchestrator jobs ls --status failed --since 2h")
def ls(
    session: Session,
    status: Status = None,
    account: OfAccount = None,
    model: str | None = None,
    external_id: ExternalId = None,
    resolved_by: ResolvedBy = None,
    fairness_key: OfFairnessKey = None,
    since: Since = None,
    limit: Limit = 50,
    after: After = None,
) -> None:
    """List jobs, newest first; those that failed with the reason."""
    filters = query(
        session.now(),
        status=status,
        account=account,
        model=model,
        external_id=external_id,
        resolved_by=resolved_by,
        fairness_key=fairness_key,
        since=since,
    )
    with session.client() as client:
        page = client.full_page(JOB.page, JOB.path, **filters, limit=limit, after=after)
    table = FAILED if any(job.error for job in page.data) else TABLE
    session.terminal.listing(page, table, whole="reason")


@command(app, "show", "orchestrator jobs show job_01m7x --timeline")
def show(
    session: Session,
    job: JobId,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Everything that happened, oldest first.")
    ] = False,
) -> None:
    """Show one job, its deliveries and what it waits for, or its timeline."""
    with session.client() as client:
        found = find(client, JOB, job)
        if timeline:
            entries = client.get(Page[TimelineEntry], f"{JOB.path}/{found.id}/timeline", limit=200)
            session.terminal.listing(entries, TIMELINE, whole="what")
            return
        more: Record = {}
        if not (session.terminal.json or session.terminal.quiet):
            past = known(client, found)
            more = waiting(client, found, past, session.now())
            more["deliveries"] = owed(client, past.events) if past else None
    session.terminal.record(found, shown(found) | more)


def _steer(session: Session, verb: str, ids: list[str], *, ask: bool) -> None:
    """Send one verb to every job. Raises `Failure` for those that refuse it."""
    with session.client() as client:
        found = named(client, ids)
        if ask and len(found) > 1:
            confirm(session.terminal, f"{verb} these {len(found)} jobs?", preview(found))
        each(
            session.terminal,
            "jobs",
            list(found),
            lambda job_id: client.post(Job, f"{JOB.path}/{job_id}/{verb}"),
            shown,
            TABLE,
            single=is_single(ids),
        )


def named(client: Client, ids: list[str]) -> dict[str, Job]:
    """Return jobs by ids, or by the beginnings of them. Raises `Failure` for an unknown one."""
    return {job.id: job for job in (find(client, JOB, word) for word in several(ids))}


def preview(found: Mapping[str, Job]) -> list[str]:
    """Return a line for each job."""
    return [f"{job_id} {job.status} {reason(job.error)}".rstrip() for job_id, job in found.items()]


@command(
    app, "cancel", "orchestrator jobs ls --status queued -q | orchestrator jobs cancel - --yes"
)
def cancel(session: Session, jobs: JobIds, yes: Yes = False) -> None:
    """Stop following jobs. Asks first if there are several."""
    _steer(session, "cancel", jobs, ask=not yes)


@command(app, "refresh", "orchestrator jobs refresh job_01m7x")
def refresh(session: Session, jobs: JobIds) -> None:
    """Ask the vendor about jobs now."""
    _steer(session, "refresh", jobs, ask=False)
