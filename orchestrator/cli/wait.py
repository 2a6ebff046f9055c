"""Following one job to its end: a long poll (`Prefer: wait`), repeated until the job is final."""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.download import download, sources
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.job_history import history, known, resolution
from orchestrator.cli.job_record import outputs
from orchestrator.cli.progress import View, view
from orchestrator.cli.terminal import moment, span
from orchestrator.schemas import Job, JobError, OutputFile

#: Seconds of a long poll: shorter than the minute most proxies allow. On a terminal the job's
#: history is read in between.
_HOLD, _WATCHED = 25, 4
#: Pause (s) between requests to a server that does not hold them.
_PACE = 0.5


def follow(client: Client, job: Job, seconds: float, shown: View, *, watched: bool) -> Job:
    """Return the job once final, or its state after `seconds`. Retries an unreachable server."""
    until = time.monotonic() + seconds
    # The submission's answer is known: only a change of it is news.
    tag = f'"v{job.version}"'
    while not job.is_final and (left := until - time.monotonic()) > 0:
        asked = time.monotonic()
        try:
            if watched and (past := known(client, job)):
                shown.reported(past)
            # With If-None-Match the server holds its answer until any change.
            hold = max(1, int(min(_WATCHED if watched else _HOLD, left)))
            headers = {"prefer": f"wait={hold}", "if-none-match": tag} if tag else {}
            answer = client.send("GET", f"/v1/jobs/{job.id}", headers=headers)
            if answer.status == 200:
                job = client.read(Job, answer.document)
                shown.changed(job)
            tag = answer.headers.get("etag", "")
            # Sent back as a header: only what one can carry.
            tag = tag if tag.isascii() and tag.isprintable() else ""
        except Failure as failure:
            if failure.later is None:
                raise
            shown.unreachable(failure)
            time.sleep(min(failure.later, max(0.0, until - time.monotonic())))
        pause = _PACE - (time.monotonic() - asked)
        time.sleep(max(0.0, min(pause, until - time.monotonic())))
    return job


def wait(
    session: Session, client: Client, job: Job, seconds: float, output: Path | None = None
) -> None:
    """Follow a job, print how it ended, and download its results.

    Raises `Failure`: the job failed, or the time is up.
    """
    terminal, began = session.terminal, time.monotonic()
    try:
        with view(terminal, job, session.now) as shown:
            job = follow(client, job, seconds, shown, watched=terminal.live)
    except KeyboardInterrupt:
        hint = f"orchestrator jobs watch {job.id}"
        raise Failure("detached; the job keeps running", hint=hint, code=Exit.INTERRUPTED) from None
    took = span(time.monotonic() - began)
    if terminal.json:
        terminal.document(job)
    elif terminal.quiet:
        terminal.say(job.id)
    if not job.is_final:
        raise _unfinished(client, job, took)
    if job.status != "succeeded":
        raise _failed(job, took, resolution(job, known(client, job)))
    if not (terminal.json or terminal.quiet):
        past = known(client, job)
        how = resolution(job, past)
        terminal.styled(("✓", "bold green"), f" Succeeded in {took}" + (f", {how}" if how else ""))
        for line in (*map(_described, outputs(job)), past.delivered if past else ""):
            terminal.say(f"  {line}" if line else "")
    if output is not None:
        if not job.urls:
            raise Failure(f"{job.id} has no results to download")
        download(terminal, sources(job, session.access(), session.allow_private()), output)


def _described(file: OutputFile) -> str:
    """Return a result's URL, length and expiry, and whether the URL needs an API key."""
    length = f"{file.duration:g} s" if file.duration else ""
    expires = f"expires {moment(file.expires_at)}" if file.expires_at else ""
    keyed = "with an API key" if file.content_url else ""
    about = " · ".join(filter(None, (length, expires, keyed)))
    return file.location + (f"   {about}" if about else "")


def _unfinished(client: Client, job: Job, took: str) -> Failure:
    try:
        trouble = history(client, job).trouble
    except Failure as failure:
        trouble = failure.message
    return Failure(
        f"{job.id} is still {job.status} after {took}",
        *filter(None, [trouble]),
        hint=f"it keeps running: orchestrator jobs watch {job.id}",
        code=Exit.WAIT_TIMED_OUT,
    )


def _failed(job: Job, took: str, how: str) -> Failure:
    message = f"{job.id} {job.status} after {took}" + (f", {how}" if how else "")
    why = _why(job.error) if job.error else ""
    hint = f"orchestrator jobs show {job.id} --timeline"
    return Failure(message, *filter(None, [why]), hint=hint, code=Exit.JOB_FAILED)


def _why(error: JobError) -> str:
    """Return why a job failed; the vendor's words once, since our message may contain them."""
    ours = [text for text in (error.code, error.message) if text]
    vendors = error.vendor_message or ""
    return ": ".join(ours if any(vendors in text for text in ours) else [*ours, vendors])
