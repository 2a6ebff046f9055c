"""The check of the public URL: a callback to ourselves shows that vendors can reach us.

A signed challenge is posted to `public_url`, the way of a vendor's push: DNS, certificate, proxy
and firewall included. Nothing else can answer it, and it touches no job. Several failures in a row
are an event, and so is the first success after them. What was announced last is the newest event,
so any process goes on from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import httpx
import sqlalchemy as sa
import structlog

from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import event
from orchestrator.database.tables.indexes import uncommon
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.notifier import Notifier
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.clock import Clock, rfc3339
from orchestrator.foundation.errors import Blocked, Exchange
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing import callback_probe
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import EventType, Source
from orchestrator.schemas.base import Json

log = structlog.get_logger()

#: Failures in a row that are announced.
FAILURES = 3
#: Seconds for one check.
_DEADLINE = 10.0
#: The lock of the decision what is announced, on PostgreSQL.
_LOCK = 0x1C9E55


@dataclass(kw_only=True)
class PublicUrlCheck:
    """Checks the public URL, once each time it is run."""

    store: Store
    settings: Settings
    keys: Keys
    http_client: HttpClient
    ids: Ids
    clock: Clock
    metrics: Metrics
    notifier: Notifier

    def __post_init__(self) -> None:
        self._failures = 0
        self._since: datetime | None = None

    async def run(self) -> None:
        """Check once, and announce what has changed. Does nothing if policy forbids the address."""
        try:
            fault = await self._fault()
        except Blocked:
            # A private address: as in a trial, where vendors are on this machine.
            return
        if fault is None:
            self._failures, self._since = 0, None
        else:
            self._failures += 1
            self._since = self._since or self.clock.now()
            log.warning("the public URL did not lead here", failures=self._failures, why=fault)
        is_lost = self._failures >= FAILURES
        self.metrics.public_url_reachable.set(not is_lost)
        if fault is not None and not is_lost:
            return
        if (await self.store.read(_announced) is not None) is is_lost:
            return
        lost = self._trouble(fault) if fault is not None else None
        if await self.store.write(_announce, self.ids, lost, self.clock.now()):
            words = "the public URL is reachable again"
            log.warning("the public URL is unreachable" if is_lost else words)
            self.notifier.wake("deliver")

    def _trouble(self, fault: str) -> Json:
        since, url = rfc3339(self._since or self.clock.now()), self.settings.base_url
        return {"object": "ingress", "url": url, "since": since, "reason": fault}

    async def _fault(self) -> str | None:
        """Return why a challenge did not come back; None if it did. Raises `Blocked`."""
        nonce, now = self.ids("ping"), self.clock.now()
        token = callback_probe.ping(self.keys, nonce, now)
        url = f"{self.settings.base_url}/callbacks/{callback_probe.PING}/{token}"
        try:
            request = httpx.Request("POST", url, json={"ping": True})
            response = await self.http_client.send(request, deadline=_DEADLINE, body="partial")
        except Blocked:
            raise
        except Exchange as error:
            # Not its words: they may name the URL, which has a token in it.
            return error.kind
        except httpx.InvalidURL:
            return "not_a_url"
        pong = _pong(response.content)
        if callback_probe.is_answered(self.keys, nonce, pong, self.clock.now()):
            return None
        return f"another server answers, with HTTP {response.status_code}"


def _pong(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(document.get("pong")) if isinstance(document, dict) else ""


def _announced(tx: Tx) -> Json | None:
    """Return the data of the event that the URL is unreachable, if it is the newest one."""
    begun, ended = (
        tx.execute(_NEWEST, {"type": kind}).first()
        for kind in (EventType.INGRESS_UNREACHABLE, EventType.INGRESS_RECOVERED)
    )
    if begun is None or (ended is not None and ended.id > begun.id):
        return None
    data: Json = json.loads(begun.body)["data"]
    return data


def _announce(tx: Tx, ids: Ids, lost: Json | None, now: datetime) -> bool:
    """Unit of work: publish that the URL is unreachable, or again reachable; return whether."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    before = _announced(tx)
    if (before is None) is (lost is None):
        return False
    kind = EventType.INGRESS_UNREACHABLE if lost else EventType.INGRESS_RECOVERED
    publish(tx, ids, [NewEvent(kind, Source.CLOCK, lost or before or {})], now)
    return True


_NEWEST = (
    sa.select(event.c.id, event.c.body)
    .where(sa.text(uncommon("event", "type")), event.c.type == sa.bindparam("type"))
    .order_by(event.c.id.desc())
    .limit(1)
)
