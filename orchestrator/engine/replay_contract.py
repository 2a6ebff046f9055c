"""The contract of a selection: the rows that a replay is about.

They are counted when the replay is made, up to `COUNT_CAP`, and then read in chunks in the order of
ids (keyset pagination). The selection is what it was at that time: nothing newer than `newest`, and
of ended deliveries only those that had ended by then. Every statement but the counts reads a
bounded number of rows: an index leads from id to id, and the other conditions are checked row by
row. A count ends as soon as it has found enough.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables.rows import JobRow, ReplayRow
from orchestrator.events.subscriptions import matches
from orchestrator.foundation.clock import EPOCH, after
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import EventType
from orchestrator.jobs.intake import JobIntake
from orchestrator.schemas.replays import COUNT_CAP

#: Seconds by which the time in an id may differ from its row's `created_at`: clocks are adjusted.
_DRIFT = 3600.0


class Chunk(NamedTuple):
    """Candidates in order, and the cursor after them; None at the end."""

    rows: Sequence[Candidate]
    next: str | None


class Made(NamedTuple):
    """How many rows were made due, how many could not be, and the jobs that were created."""

    done: int
    failed: int = 0
    jobs: Sequence[JobRow] = ()


class Share(NamedTuple):
    """How many rows belong to a subscriber (its id), or to an account."""

    owner: str
    rows: int


class Sampled(NamedTuple):
    """What a preview shows of a row: a delivery, an event or a job."""

    kind: str
    id: str
    status: str | None
    created_at: datetime
    account: str | None = None
    subscriber: str | None = None
    type: str | None = None
    job: str | None = None
    error: str | None = None


class Candidate(NamedTuple):
    """A delivery, an event or a job.

    `fits`: the replay is about it. `active`: its subscriber is active.
    """

    id: str
    fits: bool
    active: bool


class Selection(ABC):
    """The rows that a replay is about."""

    prefix: str
    id: sa.ColumnElement[str]
    #: To whom a row belongs.
    owner: sa.ColumnElement[str]
    #: Rows of a slice, at most.
    most = 1000

    def __init__(self, row: ReplayRow) -> None:
        self.row = row

    def bounds(self, tx: Tx) -> tuple[str, str]:
        """Return the id after which a new replay begins, and the last id that it may reach."""
        since, until = self.row["since"], self.row["until"]
        newest = tx.scalar(sa.select(sa.func.max(self.id))) or ""
        if until is not None:
            newest = min(newest, _first_id(self.prefix, until, _DRIFT))
        return "" if since is None else _first_id(self.prefix, since, -_DRIFT), newest

    def count(self, tx: Tx) -> int:
        """Return how many rows the replay is about, at most one more than `COUNT_CAP`."""
        some = self.matching(tx, sa.literal(1).label("one")).limit(COUNT_CAP + 1).subquery()
        return tx.scalar(sa.select(sa.func.count()).select_from(some), self.texts) or 0

    def shares(self, tx: Tx) -> list[Share]:
        """Return to whom the rows that `count` counts belong, those with the most first."""
        some = self.matching(tx, self.owner.label("owner")).limit(COUNT_CAP + 1).subquery()
        owner, total = some.c.owner, sa.func.count()
        found = sa.select(owner, total).group_by(owner).order_by(total.desc(), owner)
        return [Share(*row) for row in tx.execute(found, self.texts)]

    @property
    def texts(self) -> Mapping[str, str]:
        """The parameters of `matching`."""
        return {}

    @abstractmethod
    def matching(self, tx: Tx, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Select these columns of the rows that the replay is about."""

    @abstractmethod
    def next_chunk(self, tx: Tx, most: int) -> Chunk:
        """Return up to `most` candidates after the cursor."""

    @abstractmethod
    def make_due(
        self, tx: Tx, intake: JobIntake, chosen: Sequence[Candidate], now: datetime
    ) -> Made:
        """Make the chosen rows due. Those of an inactive subscriber are held."""

    @abstractmethod
    def sampled(self, tx: Tx, ids: Sequence[str]) -> list[Sampled]:
        """Return what a preview shows of rows."""

    def _range(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on ids: after the cursor, up to the newest."""
        return [self.id > self.row["cursor"], self.id <= self.row["newest"]]

    def _created_in(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        since, until, at = self.row["since"], self.row["until"], table.c.created_at
        lower = [] if since is None else [at >= since]
        return lower if until is None else [*lower, at < until]

    def _types(self) -> list[EventType]:
        globs = self.row["types"]
        return [kind for kind in EventType if globs is None or matches(tuple(globs), kind)]


def _first_id(prefix: str, at: datetime, seconds: float) -> str:
    """Return the first id of an instant that many seconds later, not before 1970."""
    try:
        return earliest(prefix, max(EPOCH, after(at, seconds)))
    except OverflowError:
        # At the end of the calendar.
        return earliest(prefix, max(EPOCH, at))
