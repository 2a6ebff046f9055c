"""What the database says when the service has ended: the counts that make speed honest."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from orchestrator.cli.bench.figures import Honest
from orchestrator.cli.bench.place import Place
from orchestrator.cli.bench.seeding import BENCH
from orchestrator.database.tables import attempt, delivery, event, job, push
from orchestrator.foundation.states import FINAL_EVENTS, DeliveryState, JobState

#: Rows that a bench worked on, or caused, have ids from here on.
SINCE = {prefix: f"{prefix}_{BENCH}" for prefix in ("job", "evt")}


def told(place: Place, acknowledged: Collection[str]) -> Honest:
    """Return what became of jobs whose success was acknowledged: each is final, with its push kept and one event."""
    with place.reading() as tx:
        done = set(
            tx.scalars(
                sa.select(job.c.id).where(
                    job.c.id >= SINCE["job"], job.c.state == JobState.SUCCEEDED
                )
            )
        )
        kept = set(tx.scalars(sa.select(push.c.job_id).where(push.c.job_id >= SINCE["job"])))
        lost = sum(one not in done or one not in kept for one in acknowledged)
        return Honest(lost, completions(tx), gaps(tx))


def completions(tx: sa.Connection) -> int:
    """Return how many completion events there are beyond one for each job."""
    ends = sa.and_(event.c.job_id >= SINCE["job"], event.c.type.in_(FINAL_EVENTS))
    counted = sa.select(sa.func.count() - sa.func.count(event.c.job_id.distinct())).where(ends)
    return int(tx.execute(counted).scalar_one())


def gaps(tx: sa.Connection) -> int:
    """Return how many jobs have events whose sequence has a gap."""
    mine = sa.select(event.c.job_id).where(event.c.job_id >= SINCE["job"])
    odd = (
        mine.group_by(event.c.job_id)
        .having(sa.func.max(event.c.sequence) != sa.func.count())
        .subquery()
    )
    return int(tx.execute(sa.select(sa.func.count()).select_from(odd)).scalar_one())


def unproven(place: Place, arrived: int) -> int:
    """Return how many of so many arrivals no recorded attempt proves, or are not known to be delivered."""
    with place.reading() as tx:
        mine = delivery.c.event_id >= SINCE["evt"]
        done = sa.select(sa.func.count()).where(mine, delivery.c.state == DeliveryState.DELIVERED)
        tries = sa.select(sa.func.count()).select_from(
            attempt.join(delivery, delivery.c.id == attempt.c.delivery_id)
        )
        return arrived - min(
            int(tx.execute(query).scalar_one()) for query in (done, tries.where(mine))
        )


def owed(place: Place) -> int:
    """Return how many deliveries a bench's events came to."""
    with place.reading() as tx:
        return int(
            tx.execute(
                sa.select(sa.func.count()).where(delivery.c.event_id >= SINCE["evt"])
            ).scalar_one()
        )
