"""What a live job waits for, and until when."""

from __future__ import annotations

from datetime import datetime

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Failure
from orchestrator.cli.job_history import History
from orchestrator.cli.terminal import Record, moment
from orchestrator.client.requests import path
from orchestrator.schemas import Account, Job


def waiting(client: Client, job: Job, past: History | None, now: datetime) -> Record:
    """Return what a job waits for and what went wrong last, to be displayed; nothing if final."""
    if job.is_final:
        return {}
    return {
        "waits": [
            _step(job, _account(client, job), now),
            f"until {moment(job.deadline_at)}, when it expires",
        ],
        "last trouble": past.trouble if past else None,
    }


def _step(job: Job, account: Account | None, now: datetime) -> str:
    """Return the next step of a live job. `account` is None if it is no longer configured."""
    pushes = account is None or account.expects_pushes
    match job.status:
        case "queued" if job.start_after and job.start_after > now:
            return f"until {moment(job.start_after)}, its start"
        case "queued":
            return _queued(account, now)
        case "submitting":
            lost = "cannot be" if account is not None and account.lookup == "none" else "is"
            return f"for the vendor's answer to its submission; a lost one {lost} looked up"
        case _ if job.next_poll_at is None:
            return "for a push of the vendor" if pushes else "for the next poll"
        case _ if job.next_poll_at >= job.deadline_at and pushes:
            return "for a push of the vendor, which cannot be queried without the task's id"
        case _ if job.next_poll_at >= job.deadline_at:
            return "without a task's id the vendor cannot be queried, and it pushes nothing"
        case _:
            return (
                "for a push of the vendor, or for the next poll" if pushes else "for the next poll"
            )


def _queued(account: Account | None, now: datetime) -> str:
    if account is None:
        return "to be submitted"
    if account.held:
        return f"its account is held ({account.held.reason}): {account.held.message}"
    if account.paused_until and account.paused_until > now:
        until = moment(account.paused_until)
        return f"until {until}: the vendor of {account.name} limits submissions"
    if account.in_flight >= account.max_in_flight:
        return f"for one of the {account.max_in_flight} slots of {account.name}: all are in use"
    return "to be submitted, when its turn comes"


def _account(client: Client, job: Job) -> Account | None:
    """Return the account of a job; None if it is no longer configured."""
    try:
        return client.get(Account, path("accounts", job.account))
    except Failure:
        return None
