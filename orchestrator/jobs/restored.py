"""The jobs of a database that was restored from a backup.

What happened after the backup is not in it. A job that is queued there may have been submitted
since, and rendered: to submit it again may cost its caller a second render. So it continues as
a submission whose answer was lost: the vendor is asked first, where its API can tell, and otherwise
the account's policy decides, as after a crash.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import job, trace
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import AT_VENDOR, IN_FLIGHT, JobState

#: Seconds in which a vendor can still be asked about a job whose deadline passed since the backup.
GRACE = 3600.0


class Resumed(NamedTuple):
    """The number of jobs that are looked up before they are sent, and that are queried."""

    looked_up: int
    queried: int


def resume(tx: Tx, now: datetime) -> Resumed:
    """Unit of work: make every live job due, and treat the queued ones as perhaps sent.

    Those that have not reached their start wait for it.

    No service may work on the database meanwhile.
    """
    # A start that is yet to come was yet to come whenever the backup was made: it was not sent.
    has_begun = sa.or_(job.c.start_after.is_(None), job.c.start_after <= now)
    queued = sa.and_(job.c.state == JobState.QUEUED, has_begun)
    in_flight = job.c.state.in_(IN_FLIGHT)
    detail = sa.literal({"action": "restore", "state": JobState.QUEUED}, trace.c.detail.type)
    noted = sa.select(
        job.c.id, sa.literal(now, trace.c.at.type), sa.literal("operator"), detail
    ).where(queued)
    tx.execute(sa.insert(trace).from_select(["job_id", "at", "kind", "detail"], noted))
    at_vendor = sa.select(sa.func.count()).where(job.c.state.in_(AT_VENDOR))
    queried = tx.scalar(at_vendor) or 0
    # Any worker that has an older claim is fenced off.
    claim = {"due_at": now, "lease": job.c.lease + 1, "version": job.c.version + 1}
    until = after(now, GRACE)
    # A job that is queued past its deadline expires: sent again now, it would be of no use.
    late = sa.and_(in_flight, job.c.deadline_at < until)
    tx.execute(sa.update(job).where(late).values(deadline_at=until))
    tx.execute(sa.update(job).where(in_flight).values(**claim))
    sending = {"state": JobState.SUBMITTING, "attempt": job.c.attempt + 1}
    looked_up = tx.execute(sa.update(job).where(queued).values(**claim, **sending)).rowcount
    # What a vendor answered before the backup proves nothing about a request that left after it.
    # That may have just left, as when a claim is taken back.
    in_doubt = sa.update(job).where(job.c.state == JobState.SUBMITTING)
    tx.execute(in_doubt.values(misses=-1))
    return Resumed(looked_up, queried)
