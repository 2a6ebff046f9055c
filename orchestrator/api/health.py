"""Is the process alive, and can it do its work? For load balancers: no key, nothing secret."""

from __future__ import annotations

import sqlalchemy as sa
import structlog
from starlette.responses import Response

from orchestrator.api.door import Call, reply
from orchestrator.errors import Unavailable
from orchestrator.store import Tx

log = structlog.get_logger()


async def alive(call: Call) -> Response:
    """`GET /healthz`: touches nothing."""
    return reply({"status": "ok"})


async def ready(call: Call) -> Response:
    """`GET /readyz`: 503 unless the database answers."""
    try:
        await call.runtime.store.read(_answers)
    except Unavailable as error:
        log.warning("not ready", error=str(error))
        checks = [{"name": "database", "status": "failing"}]
        return reply({"status": "unavailable", "checks": checks}, 503, {"retry-after": str(error.retry_after)})
    return reply({"status": "ok", "checks": [{"name": "database", "status": "ok"}]})


def _answers(tx: Tx) -> None:
    tx.execute(sa.text("SELECT 1"))
