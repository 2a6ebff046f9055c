"""Keyset pagination of jobs, events and deliveries, newest first, with a row and a byte budget.

A page is a scan along one index that ends in the id: that of its rarest filter, as far as a look
ahead can tell, or the primary key where no filter has one. The other filters are checked on the
rows of the scan. A page scans at most its row budget, and its rows hold at most its byte budget, or
one row: so it may be short or empty and still name the id after which the next page begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypedDict, TypeVar

import sqlalchemy as sa

from orchestrator.database.index_scan import IndexPath, statements
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, job
from orchestrator.database.tables.indexes import COMMON
from orchestrator.database.tables.rows import DeliveryRow, JobRow, fetch
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import DeliveryState

#: The wanted values of each filtered column; for a filter of `json_filters` one text.
ListFilter = Mapping[str, Sequence[str]]

#: Rows that a page scans at most; `_UNINDEXED` times as many where no filter has an index, since
#: most rows match then.
ROW_BUDGET, _UNINDEXED = 800, 10
#: Bytes of the rows of a page, as a rule.
PAGE_BYTES = 1 << 20
#: The budget is spent in chunks, each `_GROWTH` times the last: most pages need only the first.
_FIRST_CHUNK, _GROWTH = 200, 3
#: An id is made at most so long before the `created_at` of its row.
_ID_SKEW = timedelta(seconds=2)
#: No id holds an earlier instant.
_OLDEST = EPOCH + _ID_SKEW
#: After every id: of the 130 bits of a UUID in base 32, the first two are zero.
_END = "8"


class _HasId(TypedDict):
    id: str


RowT = TypeVar("RowT", bound=_HasId)
ShownT = TypeVar("ShownT", bound=_HasId)


class ListedEvent(TypedDict):
    """An event in a list."""

    id: str
    job_id: str | None
    source: str
    body: bytes


class ListedDelivery(DeliveryRow):
    """A delivery in a list, with the type and the job of its event."""

    type: str
    job_id: str | None


@dataclass(frozen=True, slots=True)
class ListPage(Generic[RowT]):
    """Rows, newest first, at most as many as the limit; fewer do not mean the end.

    `next` is the id after which the next page begins; None at the end.
    """

    rows: Sequence[RowT]
    next: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Listing(Generic[RowT]):
    """A table that can be listed: its index paths, rarest first."""

    table: sa.Table
    prefix: str
    row: type[RowT]
    shown: sa.Select[Any]
    paths: tuple[IndexPath, ...]
    #: The columns that may hold many bytes.
    wide: tuple[str, ...] = ()

    def showing(self, row: type[ShownT]) -> Listing[ShownT]:
        """Return the same listing with rows that have the columns of `row` alone."""
        shown = sa.select(*(self.table.c[name] for name in row.__annotations__))
        return replace(self, row=row, shown=shown)  # type: ignore[arg-type, return-value]

    def __call__(
        self,
        tx: Tx,
        wanted: ListFilter,
        after: str | None,
        limit: int,
        since: datetime | None = None,
        budget: int = ROW_BUDGET,
        max_bytes: int = PAGE_BYTES,
    ) -> ListPage[RowT]:
        """Return the rows that meet every filter and were created after `since`."""
        if not all(wanted.values()):
            return ListPage([], None)
        plan = ScanPlan(tx, self, wanted, after, limit, since, budget)
        ids: list[str] = []
        while plan.has_next and len(ids) <= limit:
            ids += plan.next_chunk(limit + 1 - len(ids))
        count = min(limit, fitting(self._sizes(tx, ids), max_bytes))
        following = ids[count - 1] if count < len(ids) else plan.position
        return ListPage(self._rows(tx, ids[:count]), following)

    def _rows(self, tx: Tx, ids: Sequence[str]) -> list[RowT]:
        """Return the rows with these ids, in their order."""
        if not ids:
            return []
        # Sorted here: to have them in order, PostgreSQL might walk along the primary key.
        found = fetch(tx, self.row, self.shown.where(self.table.c.id.in_(ids)))
        return sorted(found, key=lambda row: ids.index(row["id"]))

    def _sizes(self, tx: Tx, ids: Sequence[str]) -> list[int]:
        """Return the size of each row: characters of text, bytes of anything else."""
        if not (self.wide and ids):
            return [0] * len(ids)
        widths = (sa.func.coalesce(sa.func.length(self.table.c[name]), 0) for name in self.wide)
        size = sum(widths, start=sa.literal(0))
        found = sa.select(self.table.c.id, size).where(self.table.c.id.in_(ids))
        sizes: dict[str, int] = dict(tx.execute(found).all())
        return [sizes.get(row_id, 0) for row_id in ids]

    def paths_to(self, wanted: ListFilter) -> list[IndexPath]:
        """Return the paths that hold every wanted row."""
        return [path for path in self.paths if path.column in wanted and self._holds(path, wanted)]

    def _holds(self, path: IndexPath, wanted: ListFilter) -> bool:
        if path.only is not None:
            column, value = path.only
            return list(wanted.get(column, ())) == [value]
        common = COMMON.get((self.table.name, path.column), frozenset())
        return not common & set(wanted[path.column])


def fitting(sizes: Sequence[int], max_bytes: int) -> int:
    """Return how many of the first sizes fit into `max_bytes`: at least one, if there are any."""
    for count, size in enumerate(sizes):
        max_bytes -= size
        if max_bytes < 0:
            return max(count, 1)
    return len(sizes)


class ScanPlan:
    """The scan of one page, chunk by chunk, downwards from `position`; None at the end."""

    def __init__(
        self,
        tx: Tx,
        of: Listing[Any],
        wanted: ListFilter,
        after: str | None,
        limit: int,
        since: datetime | None,
        budget: int,
    ) -> None:
        self._tx = tx
        self.position: str | None = after or f"{of.prefix}_{_END}"
        self._floor = earliest(of.prefix, max(since, _OLDEST) - _ID_SKEW) if since else ""
        self._parameters: dict[str, Any] = {
            **{f"rest_{name}": values for name, values in wanted.items()},
            **{f"one_{name}": values[0] for name, values in wanted.items()},
            "since": since,
        }
        paths = of.paths_to(wanted)
        path = self._shortest(of, paths, wanted)
        values = wanted[path.column] if path else ("",)
        self._parameters |= _numbered(values)
        rest = tuple(name for name in wanted if path is None or name not in path.columns)
        indexed = tuple(
            other.column
            for other in paths
            if other.column in rest and len(wanted[other.column]) == 1
        )
        self._statements = statements(of.table, path, len(values), rest, since is not None, indexed)
        self._values = len(values)
        self._least = limit + 1
        self._budget = budget if path else budget * _UNINDEXED
        self._chunk = _FIRST_CHUNK

    @property
    def has_next(self) -> bool:
        """True if rows and budget are left."""
        return self.position is not None and self._budget > 0

    def next_chunk(self, most: int) -> list[str]:
        """Scan the next chunk and return the ids of up to `most` matching rows, newest first."""
        bounds = self._parameters | {"floor": self._floor, "after": self.position}
        self.position = self._edge(bounds)
        floor = self._floor if self.position is None else self.position
        return list(self._tx.scalars(self._statements.ids, bounds | {"floor": floor, "most": most}))

    def _edge(self, bounds: Mapping[str, Any]) -> str | None:
        """Return the id at which the next chunk ends; None for the end of the scan."""
        if not self._statements.filtered:
            # Every row of the scan is a match: `most` ends it.
            return None
        size = min(self._chunk, self._budget)
        self._budget -= size
        self._chunk *= _GROWTH
        span = max(size // self._values, self._least)
        edge: str | None = self._tx.scalar(self._statements.edge, {**bounds, "span": span})
        return edge

    def _shortest(
        self, of: Listing[Any], paths: Sequence[IndexPath], wanted: ListFilter
    ) -> IndexPath | None:
        """Return the path with the fewest rows, as far as a look ahead can tell; None for none.

        It is the path on which one chunk leads furthest back, or to the end.
        """
        if len(paths) < 2 or paths[0].is_shortest:
            return paths[0] if paths else None

        def chunk_end(path: IndexPath) -> str:
            values = wanted[path.column]
            edge = statements(of.table, path, len(values), (), since=False).edge
            bounds = {"floor": self._floor, "after": self.position, "span": _FIRST_CHUNK}
            return self._tx.scalar(edge, self._parameters | _numbered(values) | bounds) or ""

        return min(paths, key=chunk_end)


def _numbered(values: Sequence[str]) -> dict[str, str]:
    return {f"value_{n}": value for n, value in enumerate(values)}


def _of_event(column: sa.Column[Any]) -> sa.Label[Any]:
    found = sa.select(column).where(event.c.id == delivery.c.event_id)
    return found.scalar_subquery().label(column.name)


jobs = Listing(
    job,
    "job",
    JobRow,
    sa.select(job),
    (
        IndexPath("external_task_id", few=True),
        IndexPath("vendor_task_id", few=True),
        IndexPath("state"),
        IndexPath("resolved_by"),
        IndexPath("model"),
        IndexPath("account"),
    ),
    wide=("input", "output", "billing", "metadata"),
)
events = Listing(
    event,
    "evt",
    ListedEvent,
    sa.select(*(event.c[name] for name in ListedEvent.__annotations__)),
    (IndexPath("job_id", few=True), IndexPath("type")),
    wide=("body",),
)
deliveries = Listing(
    delivery,
    "dlv",
    ListedDelivery,
    # Not a join: for that PostgreSQL might read all of the events.
    sa.select(delivery, *(_of_event(event.c[name]) for name in ("type", "job_id"))),
    (
        IndexPath("event_id", few=True),
        IndexPath("subscriber_id", only=("state", DeliveryState.DEAD)),
        IndexPath("state"),
        IndexPath("subscriber_id"),
    ),
)
