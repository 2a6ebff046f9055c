"""Large images of jobs: stored once, read when the job is submitted, deleted with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import job_image


def store(tx: Tx, drafts: Sequence[Mapping[str, Any]]) -> None:
    """Unit of work: store the `images` of new jobs; those of a retry are the ones of its job."""
    new = [
        {"job_id": draft["id"], "reference": reference, "image": image}
        for draft in drafts
        for reference, image in draft.get("images", {}).items()
    ]
    if new:
        tx.execute(sa.insert(job_image), new)
    for draft in drafts:
        if (old_id := draft.get("retry_of")) is not None:
            tx.execute(_COPY, {"job": old_id, "new": draft["id"]})


def of_job(tx: Tx, job_id: str) -> dict[str, bytes]:
    """Return the large images of a job by their references."""
    return {row.reference: row.image for row in tx.execute(_IMAGES, {"job": job_id})}


_OF_JOB = job_image.c.job_id == sa.bindparam("job")
_IMAGES = sa.select(job_image.c.reference, job_image.c.image).where(_OF_JOB)
_COPY = sa.insert(job_image).from_select(
    ["job_id", "reference", "image"],
    sa.select(sa.bindparam("new", type_=sa.String), job_image.c.reference, job_image.c.image).where(
        _OF_JOB
    ),
)
