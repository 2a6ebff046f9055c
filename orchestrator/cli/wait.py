"""Following one job to its end: a held question (`Prefer: wait`), asked again until the job is final."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.jobs import urls
from orchestrator.cli.terminal import Record, clean, span
from orchestrator.states import FINAL

#: The longest a question is held; shorter than the minute most proxies allow.
_HOLD = 25
#: A server that does not hold questions is not asked more often than this.
_PACE = 0.5
TELLERS = {
    "push": "told by push",
    "poll": "no push came, a poll found it",
    "submit": "told by the submit answer",
    "lookup": "found by asking for its id",
    "clock": "told by the clock",
    "operator": "ended by an operator",
}


def is_final(job: Record) -> bool:
    """True if nothing more will happen to the job."""
    return job["status"] in {str(state) for state in FINAL}


def follow(client: Client, job: Record, seconds: float, changed: Callable[[Record], None]) -> Record:
    """Return the job once it is final, or as it is after `seconds`."""
    until = time.monotonic() + seconds
    # The answer to the submission is known: only what differs from it is news.
    tag = f'"v{job["version"]}"' if "version" in job else ""
    while not is_final(job) and (left := until - time.monotonic()) > 0:
        asked = time.monotonic()
        # Only "tell me when it is no longer this" is held for every change.
        held = {"prefer": f"wait={max(1, int(min(_HOLD, left)))}", "if-none-match": tag} if tag else {}
        answer = client.call("GET", f"/v1/jobs/{job['id']}", headers=held)
        tag = answer.headers.get("etag", "")
        if answer.status == 200:
            job = answer.document
            changed(job)
        time.sleep(min(max(0.0, _PACE - (time.monotonic() - asked)), max(0.0, until - time.monotonic())))
    return job


def told(client: Client, job: Record) -> str:
    """Return who told us, and how often we heard and had to ask."""
    kinds = Counter(entry["kind"] for entry in client.get(f"/v1/jobs/{job['id']}/timeline", limit=200)["data"])
    heard = f"{kinds['push']} push{'' if kinds['push'] == 1 else 'es'}"
    asked = f"{kinds['poll']} poll{'' if kinds['poll'] == 1 else 's'}"
    teller = TELLERS.get(str(job.get("resolved_by")), "")
    return f"{teller} ({heard}, {asked})" if teller else f"{heard}, {asked}"


def wait(session: Session, client: Client, job: Record, seconds: float) -> None:
    """Follow a job and print how it ended. Raises `Failure`: the job failed, or the time is up."""
    began = time.monotonic()
    try:
        job = _watched(session, client, job, seconds)
    except KeyboardInterrupt:
        raise Failure(
            "detached; the job keeps running", hint=f"orchestrator jobs show {job['id']}", code=Exit.INTERRUPTED
        ) from None
    took = span(time.monotonic() - began)
    if session.terminal.json:
        session.terminal.document(job)
    elif session.terminal.quiet:
        session.terminal.say(job["id"])
    if not is_final(job):
        hint = f"it keeps running: orchestrator jobs show {job['id']}"
        raise Failure(f"{job['id']} is still {job['status']} after {took}", hint=hint, code=Exit.WAIT_TIMED_OUT)
    if job["status"] != "succeeded":
        error = job.get("error") or {}
        why = _why(error)
        message = f"{job['id']} {job['status']} after {took}, {told(client, job)}" + (f"\n  {why}" if why else "")
        raise Failure(message, hint=f"orchestrator jobs show {job['id']} --timeline", code=Exit.JOB_FAILED)
    if not (session.terminal.json or session.terminal.quiet):
        session.terminal.say(f"✓ Succeeded in {took}, {told(client, job)}")
        session.terminal.say("\n".join(f"  {clean(url)}" for url in urls(job)))


def _why(error: Record) -> str:
    """Return why a job failed; the vendor's words once, since ours may hold them already."""
    said = [clean(error[key]) for key in ("code", "message") if error.get(key)]
    vendor = clean(error.get("vendor_message"))
    return ": ".join(said if any(vendor in one for one in said) else [*said, vendor])


def _watched(session: Session, client: Client, job: Record, seconds: float) -> Record:
    """Follow a job with a live line where somebody watches, else with a line for every change."""
    if not sys.stderr.isatty():
        seen = {job["status"]}

        def changed(now: Record) -> None:
            if now["status"] not in seen:
                seen.add(now["status"])
                session.terminal.notice(f"  {now['id']} {now['status']}")

        return follow(client, job, seconds, changed)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    said = TextColumn("{task.fields[said]}", markup=False, style="dim")
    with Progress(*columns, said, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(_line(job), total=None, said="")

        def redrawn(now: Record) -> None:
            progress.update(task, description=_line(now), said=told(client, now))

        return follow(client, job, seconds, redrawn)


def _line(job: Record) -> str:
    done = f" {job['progress']}%" if job.get("progress") is not None else ""
    return Text(clean(f"{job['status']}{done}")).plain
