"""The pushes of a job as they were received, refused ones too: for those who may write."""

from __future__ import annotations

import sqlalchemy as sa
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import long_poll
from orchestrator.api.endpoint import RequestContext, or_not_found
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, page_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import push
from orchestrator.database.tables.rows import PushRow, fetch
from orchestrator.foundation.logs import masked
from orchestrator.schemas.base import Json
from orchestrator.schemas.pushes import push_json


class PushQuery(PageRequest):
    """`GET /v1/jobs/{id}/pushes`."""

    prefix = "psh"


@operation("List a job's pushes", responses={200: returns(schemas.Page[schemas.Push], "Link")})
async def ls(context: RequestContext, query: PushQuery) -> Response:
    """Newest first, refused ones included: headers and bodies as the vendor sent them, but for
    tokens and signatures. A vendor's body may hold what a reader of jobs is not to see, so this
    needs the scope `write`.
    """
    job_id, store = context.id("job"), context.runtime.store
    or_not_found(await store.read(long_poll.find_head, job_id), "job")
    return page_of(context, await store.read(_select, job_id, query), query, _shown)


def _select(tx: Tx, job_id: str, query: PushQuery) -> list[PushRow]:
    # A job has about a hundred at most, of 4 MiB in all: see `engine.receive_storage`.
    chosen = sa.select(push).where(push.c.job_id == job_id).order_by(push.c.id.desc())
    if query.after is not None:
        chosen = chosen.where(push.c.id < query.after)
    return fetch(tx, PushRow, chosen.limit(query.limit + 1))


def _shown(row: PushRow) -> Json:
    return push_json(row, lambda text, name: str(masked(text, name)))
