"""`orchestrator jobs share`: a link to one job for readers without a key."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import JOBS
from orchestrator.cli.lookup import JOB, find
from orchestrator.cli.terminal import Record, moment
from orchestrator.schemas import ShareLink


def share(
    session: Session,
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="A job's id, or the beginning of one.", autocompletion=JOBS
        ),
    ],
    days: Annotated[
        int | None,
        typer.Option(min=1, max=365, help="How long the link is valid; default: as the server."),
    ] = None,
) -> None:
    """Create a link that shows one job, read only, to readers without a key."""
    with session.client() as client:
        found = find(client, JOB, job)
        body: Record = {} if days is None else {"days": days}
        link = client.post(ShareLink, f"{JOB.path}/{found.id}/share", body)
    session.terminal.record(link, {"url": link.url, "expires": moment(link.expires_at)}, key="url")


def register(jobs: typer.Typer) -> None:
    """Add the command to those of jobs."""
    command(jobs, "share", "orchestrator jobs share job_01m7x --days 3")(share)
