"""`orchestrator jobs retry`: new jobs from final ones, named or found by filters.

Each is a render to pay for. So jobs that were found are tried by a dry run first, those whose work
is live or has succeeded as another job are passed over, and the command asks before it acts.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated

import typer

from orchestrator.cli.batch import Yes, can_ask, confirm, each, is_single, page_of
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session, command
from orchestrator.cli.completers import JOBS
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.job_filters import (
    ExternalId,
    OfAccount,
    OfFairnessKey,
    ResolvedBy,
    Since,
    Status,
    matching,
    query,
)
from orchestrator.cli.job_record import shown
from orchestrator.cli.jobs import FAILED, TABLE, named, preview
from orchestrator.cli.lookup import JOB
from orchestrator.cli.pacing import patiently
from orchestrator.cli.terminal import Record, Terminal, counted
from orchestrator.foundation.states import JobState
from orchestrator.schemas import Job

#: Dry runs at once.
_ABREAST = 4
#: The API's code for work that is live, or has succeeded, as another job.
_RETRIED = "already_retried"
RetriedIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[JOB]...",
        help="Ids, or beginnings of them; - reads stdin. Without any, the options select jobs.",
        autocompletion=JOBS,
    ),
]
WithError = Annotated[
    str | None, typer.Option(metavar="CODE", help="Only jobs that failed with this code.")
]
Again = Annotated[
    bool, typer.Option("--again", help="Even if the same work is live or has succeeded elsewhere.")
]


def register(jobs: typer.Typer) -> None:
    """Add the command to those of jobs."""
    example = "orchestrator jobs retry --error vendor_unavailable --since 2h --dry-run"
    command(jobs, "retry", example)(retry)


def retry(
    session: Session,
    jobs: RetriedIds = None,
    status: Status = None,
    account: OfAccount = None,
    model: str | None = None,
    external_id: ExternalId = None,
    resolved_by: ResolvedBy = None,
    fairness_key: OfFairnessKey = None,
    since: Since = None,
    error: WithError = None,
    again: Again = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Create nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Make new jobs from final ones: each is a render to pay for.

    Takes ids, or the filters of `jobs ls` (default: --status failed). A job is refused, or passed
    over, if the same work is live or has succeeded as another job. Asks first: always for filters,
    and for several ids on a terminal.
    """
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
    is_filtered = any(value is not None for value in filters.values())
    _check_usage(jobs, is_filtered=is_filtered, error=error)
    run = _Run(session.terminal, again=again, dry_run=dry_run, error=error)
    with session.client() as client:
        if jobs:
            run.named(client, jobs, yes=yes)
        else:
            filters["status"] = status or JobState.FAILED.value
            run.filtered(client, matching(client, filters), yes=yes)


def _check_usage(jobs: list[str] | None, *, is_filtered: bool, error: str | None) -> None:
    """Raise `typer.BadParameter` for ids beside filters, and for neither."""
    if jobs and is_filtered:
        raise typer.BadParameter("name jobs or give filters, not both")
    if not jobs and not is_filtered and error is None:
        raise typer.BadParameter(
            "name jobs, or select some: --error CODE, --since 2h, --account NAME"
        )


class _Run:
    """One run of the command."""

    def __init__(
        self, terminal: Terminal, *, again: bool, dry_run: bool, error: str | None
    ) -> None:
        self._terminal = terminal
        self._dry_run = dry_run
        self._error = error
        self._body: Record = {"again": True} if again else {}

    def named(self, client: Client, ids: list[str], *, yes: bool) -> None:
        """Retry jobs by their ids. Raises `Failure` for those that refuse it."""
        found = self._with_error(named(client, ids).values())
        if len(found) > 1 and not (yes or self._dry_run) and can_ask():
            confirm(self._terminal, f"{_cost(found)}. Retry them?", preview(found))
        send = partial(self._dry, client) if self._dry_run else partial(self._retry, client)
        each(
            self._terminal,
            "jobs",
            [*found],
            send,
            shown,
            TABLE,
            single=is_single(ids) and bool(found),
        )

    def filtered(self, client: Client, jobs: Iterable[Job], *, yes: bool) -> None:
        """Retry the jobs of a list, oldest first, without those that have been retried.

        Raises `Failure` for those that refuse it, and without consent.
        """
        found = self._with_error(reversed([job for job in jobs if job.is_final]))
        planned = self._planned(client, found)
        if self._dry_run:
            self._terminal.listing(page_of([*planned.values()]), FAILED, whole="reason")
            self._terminal.notice(f"{_cost(planned)}; a dry run: nothing was created")
            return
        if planned and not yes:
            confirm(self._terminal, f"{_cost(planned)}. Retry them?", preview(planned))
        send = partial(self._retry, client)
        each(self._terminal, "jobs", [*planned], send, shown, TABLE, single=False)

    def _planned(self, client: Client, found: dict[str, Job]) -> dict[str, Job]:
        """Return the jobs that a dry run accepts, and say how many it does not."""

        def refusal(job_id: str) -> Failure | None:
            try:
                patiently(partial(self._dry, client, job_id))
            except Failure as failure:
                if failure.code is not Exit.CONFLICT:
                    raise
                return failure
            return None

        with ThreadPoolExecutor(_ABREAST) as pool:
            refusals = dict(zip(found, pool.map(refusal, found), strict=True))
        retried = [job_id for job_id, failure in refusals.items() if _is_retried(failure)]
        if retried:
            words = (
                f"passed over, their work is live or has succeeded: {counted(len(retried), 'job')}"
            )
            self._terminal.notice(f"{words}; --again retries them too")
        for job_id, failure in refusals.items():
            if failure and job_id not in retried:
                self._terminal.notice(f"passed over: {job_id}: {failure.message}", "yellow")
        return {job_id: found[job_id] for job_id, failure in refusals.items() if failure is None}

    def _dry(self, client: Client, job_id: str) -> Job:
        return client.post(Job, _path(job_id), self._body | {"dry_run": True})

    def _retry(self, client: Client, job_id: str) -> Job:
        again = "look whether `orchestrator jobs ls` shows a new job before it is tried again"
        key = secrets.token_urlsafe(24)
        return patiently(partial(client.order, Job, _path(job_id), key, again, self._body))

    def _with_error(self, jobs: Iterable[Job]) -> dict[str, Job]:
        """Return the jobs that failed with the wanted code, and say how many are left out."""
        found = {job.id: job for job in jobs}
        if self._error is None:
            return found
        matching = {
            job_id: job
            for job_id, job in found.items()
            if job.error and job.error.code == self._error
        }
        if left := len(found) - len(matching):
            words = f"left out, without the error {self._error}: {counted(left, 'job')}"
            self._terminal.notice(words)
        return matching


def _path(job_id: str) -> str:
    return f"{JOB.path}/{job_id}/retry"


def _is_retried(failure: Failure | None) -> bool:
    return bool(failure and failure.document and failure.document.get("code") == _RETRIED)


def _cost(jobs: dict[str, Job]) -> str:
    """Return `3 new renders, each of which the vendor charges for (main: 2, kling: 1)`."""
    accounts = Counter(job.account for job in jobs.values())
    where = ", ".join(f"{name}: {count}" for name, count in accounts.most_common())
    words = f"{counted(len(jobs), 'new render')}, each of which the vendor charges for"
    return f"{words} ({where})" if where else words
