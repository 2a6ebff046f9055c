"""Checks of a running server's accounts: credentials, pushes, and the queue of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orchestrator.cli.accounts import every, held, refusal, server_checks
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.doctor.findings import Finding, problem, warning
from orchestrator.cli.doctor.local import account, clock_of
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.lookup import JOB
from orchestrator.cli.terminal import moment, span
from orchestrator.foundation.states import JobState
from orchestrator.schemas import Account

#: Queued jobs that are read of an account.
_READ = 200
#: Seconds in a queue: longer is worth a warning; longer beside free slots, no worker runs.
_LONG, _LATE = 600.0, 60.0


def accounts(session: Session) -> Iterator[Finding]:
    """Check credentials at the vendors, and whether pushes come and are accepted."""
    with session.client() as client:
        known = every(client).data
        try:
            found = server_checks(client, [row.name for row in known]) if known else []
        except Failure as failure:
            if failure.code is not Exit.AUTH:
                raise
            fix = "give one with the scope write"
            yield warning("accounts", "not checked: this key may only read", fix)
            found = []
    if not known:
        words = "the server has none, so it accepts no job"
        yield warning("accounts", words, "add [accounts.main] to its settings")
    for check in found:
        yield account(check)
        yield from clock_of(check)
    for row in known:
        yield from _pushes(row)


def _pushes(row: Account) -> Iterator[Finding]:
    if found_refusal := refusal(row):
        yield problem(f"pushes of {row.name}", *found_refusal)
    elif row.pushes_degraded:
        came = (
            f"{row.pushes} came, the last {moment(row.last_push_at)}" if row.pushes else "none came"
        )
        words = f"going missing: {row.pushes_missed} missed, {came}"
        fix = "jobs are polled meanwhile; check that vendors reach public_url"
        yield warning(f"pushes of {row.name}", words, fix)


def queues(session: Session) -> Iterator[Finding]:
    """Check for accounts that are held or paused, and for jobs that have been queued for long."""
    now = session.now()
    with session.client() as client:
        known = every(client).data
        waiting = [_Queue(client, row.name, now) for row in known] if _any_queued(client) else []
    for row in known:
        queue = next((queue for queue in waiting if queue.account == row.name), None)
        yield from _queue(row, queue, now)


def _any_queued(client: Client) -> bool:
    return bool(client.get(JOB.page, JOB.path, status=JobState.QUEUED.value, limit=1).data)


class _Queue:
    """The queued jobs of an account: in words, and the age of the oldest one that was read (s).

    Those that have not reached their start are left out.
    """

    def __init__(self, client: Client, account: str, now: datetime) -> None:
        status = JobState.QUEUED.value
        page = client.full_page(JOB.page, JOB.path, status=status, account=account, limit=_READ)
        self.account = account
        more = " or more" if page.has_more else ""
        starts = [job.start_after or job.created_at for job in page.data]
        begun = [start for start in starts if start <= now]
        self.words = f"{len(begun)}{more} queued {'job' if len(begun) == 1 else 'jobs'}"
        self.oldest = (now - min(begun)).total_seconds() if begun else 0.0


def _queue(row: Account, queue: _Queue | None, now: datetime) -> Iterator[Finding]:
    name = f"queue of {row.name}"
    waits = f"{queue.words}, the oldest for {span(queue.oldest)}" if queue and queue.oldest else ""
    if why := held(row):
        fix = f"repair it at the vendor, then: orchestrator accounts check {row.name}"
        yield problem(name, f"held: {why}; {waits or 'no job is queued'}", fix)
    elif row.paused_until and row.paused_until > now:
        words = f"paused until {moment(row.paused_until)}: its vendor limits submissions"
        fix = "a lower max_in_flight or rate_limit of the account, or a higher limit at the vendor"
        yield warning(name, f"{words}; {waits or 'no job is queued'}", fix)
    elif queue is None or queue.oldest < _LATE:
        return
    elif row.in_flight >= row.max_in_flight:
        if queue.oldest >= _LONG:
            words = f"{waits}: all {row.max_in_flight} slots are in use"
            yield warning(name, words, "a higher max_in_flight, if the vendor allows it")
    elif row.rate_limit is None:
        words = f"{waits}, although {row.max_in_flight - row.in_flight} slots are free"
        fix = 'does a process with role "worker" or "all" run? see its log'
        yield problem(name, words, fix)
    elif queue.oldest >= _LONG:
        words = f"{waits}: rate_limit allows {row.rate_limit:g} submissions a second"
        yield warning(name, words, "a higher rate_limit, if the vendor allows it")
