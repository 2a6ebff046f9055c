"""`orchestrator jobs`: what was asked of vendors, and how it went."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

import typer

from orchestrator.cli.client import Client
from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Columns, Record, moment
from orchestrator.clock import rfc3339
from orchestrator.ids import is_id

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
EVENTS: Columns = {
    "at": lambda entry: moment(entry["at"]),
    "kind": lambda entry: entry["kind"],
    "what": lambda entry: ", ".join(f"{key}={value}" for key, value in entry.items() if _telling(key, value)),
}
JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or the beginning of one.")]
Limit = Annotated[int, typer.Option(min=1, max=200)]


def _telling(key: str, value: object) -> bool:
    return key not in ("at", "kind", "id") and value not in (None, "", [], {})


def seconds(option: str, text: str) -> int:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `30d`. Raises typer.BadParameter."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if not found:
        raise typer.BadParameter(f"{text!r} is not a number of seconds, nor like 15m, 2h, 30d", param_hint=option)
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def find(client: Client, text: str) -> Record:
    """Return the one job whose id is or begins with `text`. Raises `Failure` for none or several."""
    given = text if text.startswith("job_") else f"job_{text}"
    if is_id(given, "job"):
        found: Record = client.get(f"/v1/jobs/{given}")
        return found
    if not re.fullmatch(r"job_[0-7][0-9a-hjkmnp-tv-z]{0,25}", given):
        raise Failure(f"{text} begins no job's id", code=Exit.NOT_FOUND, hint="they look like job_01k...")
    # Ids sort by time and lists are newest first: what follows the last possible id with this beginning has it.
    some = client.get("/v1/jobs", after=given.ljust(30, "z"), limit=2)["data"]
    matching = [job for job in some if job["id"].startswith(given)]
    if not matching:
        raise Failure(f"no job's id begins with {text}", code=Exit.NOT_FOUND, hint="`orchestrator jobs ls`")
    if len(matching) > 1:
        raise Failure(f"several jobs' ids begin with {text}", code=Exit.USAGE, hint="give more of it")
    job: Record = matching[0]
    return job


@command(app, "ls", "orchestrator jobs ls --status failed --since 2h")
def ls(
    session: Session,
    status: Annotated[str | None, typer.Option(help="queued, processing, succeeded, failed, ...")] = None,
    account: str | None = None,
    model: str | None = None,
    external_id: Annotated[str | None, typer.Option(help="Your own id of the job.")] = None,
    resolved_by: Annotated[str | None, typer.Option(help="push, poll, submit, lookup, clock or operator.")] = None,
    since: Annotated[str | None, typer.Option(help="Created in the last 90s, 15m, 2h, 30d.")] = None,
    limit: Limit = 50,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List jobs, newest first."""
    created = rfc3339(session.now() - timedelta(seconds=seconds("--since", since))) if since else None
    query: dict[str, Any] = {"status": status, "account": account, "model": model, "external_task_id": external_id}
    with session.client() as client:
        envelope = client.get(
            "/v1/jobs", **query, resolved_by=resolved_by, created_after=created, limit=limit, after=after
        )
    session.terminal.listing(envelope, COLUMNS)


@command(app, "show", "orchestrator jobs show job_01m7x --timeline")
def show(
    session: Session,
    job: JobId,
    timeline: Annotated[bool, typer.Option("--timeline", help="Everything that happened, oldest first.")] = False,
) -> None:
    """Show one job, or its timeline."""
    with session.client() as client:
        found = find(client, job)
        if timeline:
            session.terminal.listing(client.get(f"/v1/jobs/{found['id']}/timeline", limit=200), EVENTS, whole="what")
            return
    session.terminal.record(found, shown(found))


def _steer(verb: str, help_text: str) -> None:
    """Make the command for one of the verbs a job has."""

    def steer(session: Session, job: JobId) -> None:
        with session.client() as client:
            answer = client.call("POST", f"/v1/jobs/{find(client, job)['id']}/{verb}").document
        session.terminal.record(answer, shown(answer))

    steer.__doc__ = help_text
    command(app, verb, f"orchestrator jobs {verb} job_01m7x")(steer)


_steer("cancel", "Stop following a job.")
_steer("refresh", "Ask the vendor about a job now.")
_steer("retry", "Make a new job from a final one.")


def shown(job: Record) -> Record:
    """Return what people want to know of a job, in order."""
    error = job.get("error") or {}
    said = ": ".join(str(error[key]) for key in ("code", "message") if error.get(key))
    vendor = ": ".join(str(error[key]) for key in ("vendor_code", "vendor_message") if error.get(key))
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


def urls(job: Record) -> list[str]:
    """Return where a succeeded job's results are."""
    output = job.get("output") or {}
    return [made["url"] for kind in ("videos", "images") for made in output.get(kind) or []]
