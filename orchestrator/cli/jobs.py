"""`orchestrator jobs`: what was asked of vendors, and how it went."""

from __future__ import annotations

import json
import re
import secrets
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from orchestrator.cli.batch import Yes, confirm, each, one_named, several
from orchestrator.cli.client import Client
from orchestrator.cli.columns import fitting
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import ACCOUNTS, JOBS, among
from orchestrator.cli.lookup import JOB, find
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.foundation.clock import EPOCH, rfc3339
from orchestrator.foundation.states import JobState

app = typer.Typer(no_args_is_help=True, help="Look at jobs and steer them.")

COLUMNS: Columns = {
    "id": lambda job: job["id"],
    "status": lambda job: job["status"],
    "account": lambda job: job["account"],
    "model": lambda job: job["model"],
    "capability": lambda job: job["capability"],
    "created": lambda job: moment(job["created_at"]),
    "told by": lambda job: job["resolved_by"] or "-",
}
#: In a line of a small terminal.
_NARROW: Columns = {name: COLUMNS[name] for name in ("id", "status", "account", "created")}
_WIDE = 120
#: Seconds of the longest span that anybody can mean.
_LONGEST = 100 * 365 * 86_400
EVENTS: Columns = {
    "at": lambda entry: moment(entry["at"]),
    "kind": lambda entry: entry["kind"],
    "what": lambda entry: ", ".join(
        f"{key}={_word(value)}" for key, value in entry.items() if _telling(key, value)
    ),
}
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
Limit = Annotated[int, typer.Option(min=1, max=200)]


def _telling(key: str, value: object) -> bool:
    return key not in ("at", "kind", "id") and value not in (None, "", [], {})


def _word(value: object) -> str:
    """Return a value as JSON spells it, a text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def seconds(option: str, text: str) -> int:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `30d`. Raises typer.BadParameter."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if not found:
        raise typer.BadParameter(
            f"{text!r} is not a number of seconds, nor like 15m, 2h, 30d", param_hint=option
        )
    span = int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    if span > _LONGEST:
        raise typer.BadParameter(f"{text!r} is longer than a hundred years", param_hint=option)
    return span


def ago(option: str, text: str, now: datetime) -> datetime:
    """Return the instant so long before now, 1970 at the earliest: no id is older. Raises typer.BadParameter."""
    return max(EPOCH, now - timedelta(seconds=seconds(option, text)))


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
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List jobs, newest first."""
    created = rfc3339(ago("--since", since, session.now())) if since else None
    query: dict[str, Any] = {
        "status": status,
        "account": account,
        "model": model,
        "external_task_id": external_id,
    }
    with session.client() as client:
        envelope = client.page(
            "/v1/jobs",
            **query,
            resolved_by=resolved_by,
            created_after=created,
            limit=limit,
            after=after,
        )
    session.terminal.listing(envelope, fitting(COLUMNS, _NARROW, _WIDE))


@command(app, "show", "orchestrator jobs show job_01m7x --timeline")
def show(
    session: Session,
    job: JobId,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Everything that happened, oldest first.")
    ] = False,
) -> None:
    """Show one job, or its timeline."""
    with session.client() as client:
        found = find(client, JOB, job)
        if timeline:
            session.terminal.listing(
                client.get(f"/v1/jobs/{found['id']}/timeline", limit=200), EVENTS, whole="what"
            )
            return
    session.terminal.record(found, shown(found))


def _steered(session: Session, verb: str, ids: list[str], *, ask: bool) -> None:
    """Do one thing to jobs, to all that can take it. Raises `Failure` for those that cannot."""
    with session.client() as client:
        found = {one["id"]: one for one in (find(client, JOB, word) for word in several(ids))}
        if ask and len(found) > 1:
            preview = [f"{job_id} {one['status']}" for job_id, one in found.items()]
            confirm(session.terminal, f"{verb} these {len(found)} jobs?", preview)
        columns, alone = fitting(COLUMNS, _NARROW, _WIDE), one_named(ids)
        each(
            session.terminal,
            "jobs",
            list(found),
            lambda one: _steer(client, one, verb),
            shown,
            columns,
            alone=alone,
        )


def _steer(client: Client, job_id: str, verb: str) -> Record:
    path = f"/v1/jobs/{job_id}/{verb}"
    if verb != "retry":
        done: Record = client.call("POST", path).document
        return done
    again = "look whether `orchestrator jobs ls` shows a new job before it is tried again"
    made: Record = client.order(path, secrets.token_urlsafe(24), again).document
    return made


@command(
    app, "cancel", "orchestrator jobs ls --status queued -q | orchestrator jobs cancel - --yes"
)
def cancel(session: Session, jobs: JobIds, yes: Yes = False) -> None:
    """Stop following jobs. Asks first where there are several."""
    _steered(session, "cancel", jobs, ask=not yes)


@command(app, "refresh", "orchestrator jobs refresh job_01m7x")
def refresh(session: Session, jobs: JobIds) -> None:
    """Ask the vendor about jobs now."""
    _steered(session, "refresh", jobs, ask=False)


@command(
    app, "retry", "orchestrator jobs ls --status failed --since 1h -q | orchestrator jobs retry -"
)
def retry(session: Session, jobs: JobIds) -> None:
    """Make new jobs from final ones."""
    _steered(session, "retry", jobs, ask=False)


def shown(job: Record) -> Record:
    """Return what people want to know of a job, in order."""
    error = job.get("error") or {}
    said = ": ".join(str(error[key]) for key in ("code", "message") if error.get(key))
    vendor = ": ".join(
        str(error[key]) for key in ("vendor_code", "vendor_message") if error.get(key)
    )
    return {
        "id": job["id"],
        "status": job["status"],
        "account": f"{job['account']} ({job['vendor']})",
        "model": job["model"],
        "capability": job["capability"],
        "external id": job["external_task_id"],
        "vendor id": job["vendor_task_id"],
        "vendor says": job["vendor_status"],
        "told by": job["resolved_by"],
        "retry of": job.get("retry_of"),
        "created": moment(job["created_at"]),
        "finished": moment(job["finished_at"]),
        "next question": moment(job["next_poll_at"]) if job.get("next_poll_at") else None,
        "error": said,
        "vendor's error": vendor,
        "output": "\n".join(urls(job)),
    }


def outputs(job: Record) -> list[Record]:
    """Return a succeeded job's results, videos first."""
    output = job.get("output") or {}
    return [made for kind in ("videos", "images") for made in output.get(kind) or []]


def urls(job: Record) -> list[str]:
    """Return where a succeeded job's results are."""
    return [made["url"] for made in outputs(job)]
