"""Following one job to its end: a held question (`Prefer: wait`), asked again until the job is final."""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.download import download
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.job_history import history, known, teller
from orchestrator.cli.jobs import outputs, urls
from orchestrator.cli.progress import View, view
from orchestrator.cli.terminal import Record, clean, moment, span
from orchestrator.foundation.states import FINAL

#: The longest a question is held; shorter than the minute most proxies allow. Where somebody watches, news of the
#: job's history are asked for in between.
_HOLD, _WATCHED = 25, 4
#: A server that does not hold questions is not asked more often than this.
_PACE = 0.5


def is_final(job: Record) -> bool:
    """True if nothing more will happen to the job."""
    return job["status"] in {str(state) for state in FINAL}


def follow(client: Client, job: Record, seconds: float, shown: View, *, watched: bool) -> Record:
    """Return the job once it is final, or as it is after `seconds`. A server that is away is tried again."""
    until = time.monotonic() + seconds
    # The answer to the submission is known: only what differs from it is news.
    tag = f'"v{job["version"]}"' if "version" in job else ""
    while not is_final(job) and (left := until - time.monotonic()) > 0:
        asked = time.monotonic()
        try:
            if watched:
                shown.heard(history(client, job))
            # Only "tell me when it is no longer this" is held for every change.
            hold = max(1, int(min(_WATCHED if watched else _HOLD, left)))
            held = {"prefer": f"wait={hold}", "if-none-match": tag} if tag else {}
            answer = client.call("GET", f"/v1/jobs/{job['id']}", headers=held)
        except Failure as failure:
            if failure.later is None:
                raise
            shown.lost(failure)
            time.sleep(min(failure.later, max(0.0, until - time.monotonic())))
        else:
            tag = answer.headers.get("etag", "")
            if answer.status == 200:
                job = answer.document
                shown.changed(job)
        time.sleep(
            min(max(0.0, _PACE - (time.monotonic() - asked)), max(0.0, until - time.monotonic()))
        )
    return job


def wait(
    session: Session, client: Client, job: Record, seconds: float, output: Path | None = None
) -> None:
    """Follow a job, print how it ended, and fetch what came of it.

    Raises `Failure`: the job failed, or the time is up.
    """
    terminal, began = session.terminal, time.monotonic()
    try:
        with view(terminal, job, session.now) as shown:
            job = follow(client, job, seconds, shown, watched=terminal.live)
    except KeyboardInterrupt:
        hint = f"orchestrator jobs watch {job['id']}"
        raise Failure("detached; the job keeps running", hint=hint, code=Exit.INTERRUPTED) from None
    took = span(time.monotonic() - began)
    if terminal.json:
        terminal.document(job)
    elif terminal.quiet:
        terminal.say(job["id"])
    if not is_final(job):
        raise _unfinished(client, job, took)
    if job["status"] != "succeeded":
        raise _failed(client, job, took)
    if not (terminal.json or terminal.quiet):
        past = known(client, job)
        told = teller(job, past)
        terminal.styled(
            ("✓", "bold green"), f" Succeeded in {took}" + (f", {told}" if told else "")
        )
        for line in (
            *(f"{clean(url)}{about}" for url, about in _described(job)),
            past.told if past else "",
        ):
            terminal.say(f"  {line}" if line else "")
    if output is not None:
        if not urls(job):
            raise Failure(f"{job['id']} has no results to download")
        download(terminal, urls(job), output)


def _described(job: Record) -> list[tuple[str, str]]:
    """Return each result's URL, and what is known of it."""
    found = []
    for made in outputs(job):
        length = f"{made['duration']:g} s" if made.get("duration") else ""
        ends = f"expires {moment(made['expires_at'])}" if made.get("expires_at") else ""
        about = " · ".join(filter(None, (length, ends)))
        found.append((made["url"], f"   {about}" if about else ""))
    return found


def _unfinished(client: Client, job: Record, took: str) -> Failure:
    message = f"{job['id']} is still {job['status']} after {took}"
    try:
        trouble = history(client, job).trouble
    except Failure as failure:
        trouble = failure.message
    if trouble:
        message += f"\n  {trouble}"
    return Failure(
        message,
        hint=f"it keeps running: orchestrator jobs watch {job['id']}",
        code=Exit.WAIT_TIMED_OUT,
    )


def _failed(client: Client, job: Record, took: str) -> Failure:
    why = _why(job.get("error") or {})
    told = teller(job, known(client, job))
    message = f"{job['id']} {job['status']} after {took}" + (f", {told}" if told else "")
    hint = f"orchestrator jobs show {job['id']} --timeline"
    return Failure(message + (f"\n  {why}" if why else ""), hint=hint, code=Exit.JOB_FAILED)


def _why(error: Record) -> str:
    """Return why a job failed; the vendor's words once, since ours may hold them already."""
    said = [clean(error[key]) for key in ("code", "message") if error.get(key)]
    vendor = clean(error.get("vendor_message"))
    return ": ".join(said if any(vendor in one for one in said) else [*said, vendor])
