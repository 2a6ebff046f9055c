"""`orchestrator jobs`: list and show jobs, cancel, refresh and retry them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Annotated

import typer

from orchestrator.cli.batch import Yes, can_ask, confirm, each, is_single, several
from orchestrator.cli.client import Client
from orchestrator.cli.columns import Table
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import ACCOUNTS, JOBS, among
from orchestrator.cli.job_waiting import waiting
from orchestrator.cli.lookup import JOB, find
from orchestrator.cli.options import After, Limit, ago
from orchestrator.cli.terminal import Record, moment
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.states import JobState
from orchestrator.schemas import Job, OutputFile, Page, TimelineEntry

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
    narrow=("id", "status", "account", "created"),
    wide=120,
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
    status: Annotated[
        str | None,
        typer.Option(
            help="queued, processing, succeeded, failed, ...", autocompletion=among(JobState)
        ),
    ] = None,
    account: Annotated[str | None, typer.Option(autocompletion=ACCOUNTS)] = None,
    model: str | None = None,
    external_id: Annotated[str | None, typer.Option(help="Your own id of the job.")] = None,
    resolved_by: Annotated[
        str | None, typer.Option(help="push, poll, submit, lookup, clock or operator.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Created in the last 90s, 15m, 2h, 30d.")
    ] = None,
    limit: Limit = 50,
    after: After = None,
) -> None:
    """List jobs, newest first."""
    created = rfc3339(ago("--since", since, session.now())) if since else None
    filters: Record = {
        "status": status,
        "account": account,
        "model": model,
        "external_task_id": external_id,
        "resolved_by": resolved_by,
        "created_after": created,
    }
    with session.client() as client:
        page = client.full_page(JOB.page, JOB.path, **filters, limit=limit, after=after)
    session.terminal.listing(page, TABLE.columns)


@command(app, "show", "orchestrator jobs show job_01m7x --timeline")
def show(
    session: Session,
    job: JobId,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Everything that happened, oldest first.")
    ] = False,
) -> None:
    """Show one job and what it waits for, or its timeline."""
    with session.client() as client:
        found = find(client, JOB, job)
        if timeline:
            entries = client.get(Page[TimelineEntry], f"{JOB.path}/{found.id}/timeline", limit=200)
            session.terminal.listing(entries, TIMELINE.columns, whole="what")
            return
        is_bare = session.terminal.json or session.terminal.quiet
        waits = {} if is_bare else waiting(client, found, session.now())
    session.terminal.record(found, shown(found) | waits)


def _steer(session: Session, verb: str, ids: list[str], *, ask: bool) -> None:
    """Send one verb to every job. Raises `Failure` for those that refuse it."""
    with session.client() as client:
        found = _found(client, ids)
        if ask and len(found) > 1:
            confirm(session.terminal, f"{verb} these {len(found)} jobs?", _preview(found))
        each(
            session.terminal,
            "jobs",
            list(found),
            lambda job_id: client.post(Job, f"{JOB.path}/{job_id}/{verb}"),
            shown,
            TABLE,
            single=is_single(ids),
        )


def _found(client: Client, ids: list[str]) -> dict[str, Job]:
    return {job.id: job for job in (find(client, JOB, word) for word in several(ids))}


def _preview(found: Mapping[str, Job]) -> list[str]:
    return [f"{job_id} {job.status}" for job_id, job in found.items()]


def _retry(client: Client, job_id: str, body: Record) -> Job:
    path = f"{JOB.path}/{job_id}/retry"
    if body.get("dry_run"):
        return client.post(Job, path, body)
    again = "look whether `orchestrator jobs ls` shows a new job before it is tried again"
    return client.order(path, secrets.token_urlsafe(24), again, body)


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


@command(
    app, "retry", "orchestrator jobs ls --status failed --since 1h -q | orchestrator jobs retry -"
)
def retry(
    session: Session,
    jobs: JobIds,
    again: Annotated[
        bool,
        typer.Option("--again", help="Even if the same work is live or has succeeded elsewhere."),
    ] = False,
    error: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only jobs that failed with this code.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Create nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Make new jobs from final ones: each is a render to pay for.

    A job is refused if the same work is live or has succeeded as another job. Asks first on a
    terminal if there are several.
    """
    body: Record = {
        name: True for name, wanted in (("again", again), ("dry_run", dry_run)) if wanted
    }
    with session.client() as client:
        found = _found(client, jobs)
        if error is not None:
            found = _failed_with(session, found, error)
        if len(found) > 1 and not (yes or dry_run) and can_ask():
            confirm(session.terminal, f"retry these {len(found)} jobs?", _preview(found))
        each(
            session.terminal,
            "jobs",
            list(found),
            lambda job_id: _retry(client, job_id, body),
            shown,
            TABLE,
            single=is_single(jobs) and bool(found),
        )


def _failed_with(session: Session, found: dict[str, Job], code: str) -> dict[str, Job]:
    """Return the jobs that failed with a code, and say how many are left out."""
    matching = {
        job_id: job for job_id, job in found.items() if job.error and job.error.code == code
    }
    if left := len(found) - len(matching):
        session.terminal.notice(f"left out, without the error {code}: {left} jobs")
    return matching


def shown(job: Job) -> Record:
    """Return the fields of a job to display, in order."""
    error = job.error
    ours = (error.code, error.message) if error else ()
    vendors = (error.vendor_code, error.vendor_message) if error else ()
    return {
        "id": job.id,
        "status": job.status,
        "account": f"{job.account} ({job.vendor})",
        "model": job.model,
        "capability": job.capability,
        "external id": job.external_task_id,
        "vendor id": job.vendor_task_id,
        "vendor status": job.vendor_status,
        "resolved by": job.resolved_by,
        "retry of": job.retry_of,
        "created": moment(job.created_at),
        "finished": moment(job.finished_at),
        "next poll": moment(job.next_poll_at) if job.next_poll_at else None,
        "error": ": ".join(map(str, filter(None, ours))),
        "vendor error": ": ".join(map(str, filter(None, vendors))),
        "output": job.urls,
        "watermarked": [file.watermark_url for file in outputs(job) if file.watermark_url],
        "billing": None if job.billing is None else json.dumps(job.billing, ensure_ascii=False),
    }


def outputs(job: Job) -> list[OutputFile]:
    """Return a succeeded job's files, videos first."""
    return job.output.files if job.output else []
