"""Is the process alive, and can it do its work? For load balancers: no key, nothing secret."""

from __future__ import annotations

import math
from datetime import datetime

import sqlalchemy as sa
import structlog
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, reply
from orchestrator.api.operation import answer, operation
from orchestrator.database.store import Tx
from orchestrator.database.tables import trace
from orchestrator.foundation.errors import Unavailable

log = structlog.get_logger()

_BELIEVED = 1.0


@operation("Check liveness", answers={200: schemas.Alive}, lenient=True)
async def alive(call: RequestContext) -> Response:
    """Touches nothing: a process that answers is alive."""
    return reply({"status": "ok"})


async def elsewhere(call: RequestContext) -> Response:
    """Whatever it is, a process with role `worker` does not answer it. Raises `Unavailable`."""
    raise Unavailable(
        f"{call.request.method} reached a worker: lead callers and vendors to role `api` or `all`"
    )


class Readiness:
    """Whether the database can be read and written: a full disk still reads well.

    Anybody may ask, so a write that went well is believed for a second.
    """

    def __init__(self) -> None:
        self._until = -math.inf

    @operation(
        "Check readiness",
        answers={
            200: schemas.Readiness,
            503: answer(schemas.Readiness, "Retry-After", says="Not ready"),
        },
        lenient=True,
    )
    async def probe(self, call: RequestContext) -> Response:
        """503 unless the database can be read and written."""
        runtime = call.runtime
        try:
            await runtime.store.read(_answers)
            if runtime.clock.monotonic() >= self._until:
                await runtime.store.write(_takes_a_write, runtime.clock.now())
                self._until = runtime.clock.monotonic() + _BELIEVED
        except Unavailable as error:
            log.warning("not ready", error=str(error))
            checks = [{"name": "database", "status": "failing"}]
            return reply(
                {"status": "unavailable", "checks": checks},
                503,
                {"retry-after": str(error.retry_after)},
            )
        return reply({"status": "ok", "checks": [{"name": "database", "status": "ok"}]})


def _answers(tx: Tx) -> None:
    tx.execute(sa.text("SELECT 1"))


def _takes_a_write(tx: Tx, now: datetime) -> None:
    """Add a row and take it away again: SQLite writes nothing for an update that changes nothing."""
    added = (
        sa.insert(trace).values(job_id="", at=now, kind="probe", detail={}).returning(trace.c.id)
    )
    tx.execute(sa.delete(trace).where(trace.c.id == tx.scalar(added)))
