"""The watch over pushes: where many are overdue at once, a few status queries find out why.

A single silent job says little. But the ends that are expected of all live jobs of an account add
up: once no push has come although ten or so were expected, silence is no chance. Either the pushes
have stopped, or the vendor has. A few jobs that should have ended are asked about, and the ends
that these queries find degrade the account (`jobs/push_health`); an answer "still at work" proves
the vendor slow, and announces nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
import structlog

from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state, job
from orchestrator.engine.notifier import Notifier
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.states import AT_VENDOR
from orchestrator.jobs.latency_store import LatencyKey
from orchestrator.jobs.learning import Learned, Learning
from orchestrator.jobs.ledger import Ledger
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()

#: Pushes that are expected, of which none comes by chance once in ten thousand times.
_EXPECTED = -math.log(1e-4)
#: Seconds of silence that are never looked at, and live jobs that are looked at, at most.
_BRIEF, _MOST = 5.0, 2000
#: Jobs that are asked about: more than what degrades an account.
_ASKED = 5
#: So much longer the silence must be before the same account is asked about again.
_LONGER = 2.0


class _Silence(NamedTuple):
    account: str
    seconds: float


class _Live(NamedTuple):
    id: str
    model: str
    capability: str
    submitted_at: datetime


@dataclass(kw_only=True)
class PushWatch:
    """Looks at the accounts that are silent, once each time it is run."""

    store: Store
    ledger: Ledger
    vendors: Mapping[str, Vendor]
    clock: Clock
    learning: Learning
    notifier: Notifier

    def __post_init__(self) -> None:
        #: The silence after which an account was asked about.
        self._asked_after: dict[str, float] = {}

    async def run(self) -> None:
        """Ask about a few jobs of each account of which too many pushes are overdue."""
        learned = self.learning.learned
        watched = [
            name
            for name in {key.account for key in learned.latencies}
            if self.vendors[name].pushes and name not in learned.degraded
        ]
        if not watched:
            return
        now = self.clock.now()
        for silence in await self.store.read(_silences, sorted(watched), now):
            before = self._asked_after.get(silence.account, 0.0)
            if before > silence.seconds:
                del self._asked_after[silence.account]
            elif silence.seconds >= before * _LONGER:
                await self._look(learned, silence, now)

    async def _look(self, learned: Learned, silence: _Silence, now: datetime) -> None:
        live = await self.store.read(_live, silence.account)
        hazards = {one.id: hazard(learned, silence, one, now) for one in live}
        pushed = 1 - learned.loss(silence.account).estimate
        if sum(hazards.values()) * pushed < _EXPECTED:
            return
        log.info("many pushes are overdue", account=silence.account, silent=silence.seconds)
        self._asked_after[silence.account] = silence.seconds
        # Not the oldest: one that hangs says nothing.
        likely = sorted(hazards, key=lambda name: -hazards[name])[:_ASKED]
        await self.store.write(self.ledger.poll_now, likely, now)
        self.notifier.wake("poll")


def hazard(learned: Learned, silence: _Silence, one: _Live, now: datetime) -> float:
    """Return how many pushes of a live job were expected in the silence: its cumulative hazard."""
    latency = learned.latencies.get(LatencyKey(silence.account, one.model, one.capability))
    if latency is None:
        return 0.0
    age = (now - one.submitted_at).total_seconds()
    return math.log((1 - latency.share(age - silence.seconds)) / (1 - latency.share(age)))


def _silences(tx: Tx, accounts: Sequence[str], now: datetime) -> list[_Silence]:
    """Return the accounts that pushed once, and nothing for some seconds."""
    state = account_state.c
    found = sa.select(state.account, state.last_push_at).where(
        state.account.in_(accounts), state.last_push_at.is_not(None)
    )
    silences = (_Silence(name, (now - at).total_seconds()) for name, at in tx.execute(found))
    return [one for one in silences if one.seconds >= _BRIEF]


def _live(tx: Tx, account: str) -> list[_Live]:
    """Return live jobs of an account, some of very many."""
    columns = (job.c[name] for name in _Live._fields)
    found = sa.select(*columns).where(
        job.c.account == account,
        job.c.state.in_(AT_VENDOR),
        job.c.due_at.is_not(None),
        job.c.submitted_at.is_not(None),
    )
    return [_Live(*row) for row in tx.execute(found.limit(_MOST))]
