"""The filters of lists of jobs: options of commands, and the jobs that match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from orchestrator.cli.client import Client
from orchestrator.cli.completers import ACCOUNTS, among
from orchestrator.cli.lookup import JOB
from orchestrator.cli.options import ago
from orchestrator.cli.pacing import patiently
from orchestrator.cli.terminal import Record
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.states import JobState
from orchestrator.schemas import Job

#: Jobs in one page of the API, at most.
_PAGE = 200
Status = Annotated[
    str | None,
    typer.Option(help="queued, processing, succeeded, failed, ...", autocompletion=among(JobState)),
]
OfAccount = Annotated[str | None, typer.Option("--account", autocompletion=ACCOUNTS)]
ExternalId = Annotated[str | None, typer.Option(help="Your own id of the job.")]
ResolvedBy = Annotated[
    str | None, typer.Option(help="push, poll, submit, lookup, clock or operator.")
]
OfFairnessKey = Annotated[
    str | None, typer.Option("--fairness-key", help="As submitted; or an API key's id.")
]
Since = Annotated[str | None, typer.Option(help="Created in the last 90s, 15m, 2h, 30d.")]


def query(
    now: datetime,
    *,
    status: str | None,
    account: str | None,
    model: str | None,
    external_id: str | None,
    resolved_by: str | None,
    fairness_key: str | None,
    since: str | None,
) -> Record:
    """Return the options as query parameters; those that were not given are None."""
    return {
        "status": status,
        "account": account,
        "model": model,
        "external_task_id": external_id,
        "resolved_by": resolved_by,
        "fairness_key": fairness_key,
        "created_after": rfc3339(ago("--since", since, now)) if since is not None else None,
    }


def matching(client: Client, parameters: Mapping[str, object]) -> Iterator[Job]:
    """Yield every job that matches, newest first. Raises `Failure`."""
    after: str | None = None
    while True:
        request = partial(client.get, JOB.page, JOB.path, **parameters, limit=_PAGE, after=after)
        page = patiently(request)
        yield from page.data
        if not page.has_more:
            return
        after = page.next_cursor
