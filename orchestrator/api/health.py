"""Liveness and readiness, for load balancers: no key, no secrets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
import structlog
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, reply
from orchestrator.api.operation import operation, returns
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import trace
from orchestrator.engine.ticker import Pulse
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.settings import Settings
from orchestrator.schemas.base import Json, rfc3339_or_none

log = structlog.get_logger()

#: Seconds for which a successful write is cached.
_CACHED = 1.0
#: Seconds after which a caller may ask again.
_RETRY_AFTER = 2


@operation("Check liveness", responses={200: schemas.Alive}, lenient=True)
async def alive(context: RequestContext) -> Response:
    """Uses no database: a process that responds is alive."""
    return reply({"status": "ok"})


async def not_served(context: RequestContext) -> Response:
    """Raise `Unavailable`: a process with the role `worker` serves no requests."""
    raise Unavailable(
        f"{context.request.method} reached a worker: route callers and vendors to role `api` or "
        "`all`"
    )


@dataclass(kw_only=True)
class ReadinessProbe:
    """Whether the database can be read and written (on a full disk, reads still work), and whether
    ticks come: without them due work waits.

    No key is needed, so a successful write is cached for a second.
    """

    store: Store
    clock: Clock
    pulse: Pulse
    settings: Settings

    def __post_init__(self) -> None:
        self._until = -math.inf

    @operation(
        "Check readiness",
        responses={
            200: schemas.Readiness,
            503: returns(schemas.Readiness, "Retry-After", description="Not ready"),
        },
        lenient=True,
    )
    async def probe(self, context: RequestContext) -> Response:
        """503 unless the database can be read and written, and ticks come."""
        failures, retry_after = dict[str, str](), _RETRY_AFTER
        try:
            await self._use_database()
        except Unavailable as error:
            log.warning("not ready", error=str(error))
            failures["database"], retry_after = error.detail, error.retry_after
        if self.pulse.stopped:
            log.warning("not ready", error="ticks have stopped")
            failures["ticks"] = "due work waits; restart the service"
        checks = [_check(name, failures.get(name)) for name in ("database", "ticks")]
        status = "unavailable" if failures else "ok"
        read_at = rfc3339_or_none(self.settings.read_at)
        body: Json = {"status": status, "checks": checks, "settings_read_at": read_at}
        if not failures:
            return reply(body)
        return reply(body, 503, {"retry-after": str(retry_after)})

    async def _use_database(self) -> None:
        """Read and write. Raises `Unavailable`."""
        await self.store.read(_select_1)
        if self.clock.monotonic() >= self._until:
            await self.store.write(_write, self.clock.now())
            self._until = self.clock.monotonic() + _CACHED


def _check(name: str, failure: str | None) -> dict[str, str]:
    if failure is None:
        return {"name": name, "status": "ok"}
    return {"name": name, "status": "failing"} | ({"detail": failure} if failure else {})


def _select_1(tx: Tx) -> None:
    tx.execute(sa.text("SELECT 1"))


def _write(tx: Tx, now: datetime) -> None:
    """Insert a row and delete it: SQLite writes nothing for an update that changes nothing."""
    added = (
        sa.insert(trace).values(job_id="", at=now, kind="probe", detail={}).returning(trace.c.id)
    )
    tx.execute(sa.delete(trace).where(trace.c.id == tx.scalar(added)))
