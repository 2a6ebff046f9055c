"""Pages of what there is most of, newest first: jobs, events and deliveries. Their cost does not grow with the tables.

A page is read along one index whose last column is the id: that of its rarest filter, as far as a look ahead can tell,
or the primary key where no filter has one. The other filters are tried on what is met on the way, and a page looks at
so many rows at most. It may therefore hold fewer than it could, or nothing, and still say where the next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestrator.database.index_scan import IndexPath, look
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, job
from orchestrator.database.tables.indexes import COMMON
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import DeliveryState

Row = Mapping[Any, Any]
#: Values by column.
ListFilter = Mapping[str, Sequence[str]]

#: Rows that one page looks at, at most; so many times as many where no index leads to what is wanted, since most rows
#: are that.
LOOK, _FAR = 800, 10
#: It does so in portions, each these many times as large as what came before: most pages are full after the first.
_FIRST, _GROWS = 200, 3
#: An id is made at most so long before the instant that its row says it was created at.
_EARLIER = timedelta(seconds=2)
#: No id says when before that.
_OLDEST = EPOCH + _EARLIER
#: After every id: of a UUID's 130 bits in base 32, the first two are zero.
_END = "8"
#: Everything about a job that is shown.
_SHOWN = (
    "id", "state", "account", "vendor", "model", "capability", "external_task_id", "vendor_task_id", "vendor_status",
    "progress", "input", "output", "error", "metadata", "resolved_by", "retry_of", "version", "created_at",
    "submitted_at", "finished_at", "deadline_at", "due_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListPage:
    """Some rows, newest first, at most as many as were asked for; fewer do not mean the end.

    `next` is the id after which to go on; None: there is nothing more.
    """

    rows: Sequence[Row]
    next: str | None


@dataclass(frozen=True, slots=True)
class _List:
    """What can be listed: `ways` rarest first."""

    table: sa.Table
    prefix: str
    shown: sa.Select[Any]
    ways: tuple[IndexPath, ...]

    def open(self, wanted: ListFilter) -> list[IndexPath]:
        """Return the ways there are to what is wanted."""
        return [way for way in self.ways if way.column in wanted and self._has(way, wanted)]

    def _has(self, way: IndexPath, wanted: ListFilter) -> bool:
        if way.only is not None:
            column, value = way.only
            return list(wanted.get(column, ())) == [value]
        return not COMMON.get((self.table.name, way.column), frozenset()) & set(wanted[way.column])


_JOBS = _List(
    job,
    "job",
    sa.select(*(job.c[name] for name in _SHOWN)),
    (
        IndexPath("external_task_id", few=True),
        IndexPath("state"),
        IndexPath("resolved_by"),
        IndexPath("model"),
        IndexPath("account"),
    ),
)
_EVENTS = _List(
    event,
    "evt",
    sa.select(*(event.c[name] for name in ("id", "job_id", "source", "body"))),
    (IndexPath("job_id", few=True), IndexPath("type")),
)
_DELIVERIES = _List(
    delivery,
    "dlv",
    sa.select(delivery, event.c.type, event.c.job_id).join(
        event, event.c.id == delivery.c.event_id
    ),
    (
        IndexPath("event_id", few=True),
        IndexPath("subscriber_id", only=("state", DeliveryState.DEAD)),
        IndexPath("state"),
        IndexPath("subscriber_id"),
    ),
)


def jobs(
    tx: Tx,
    wanted: ListFilter,
    after: str | None,
    limit: int,
    since: datetime | None = None,
    look: int = LOOK,
) -> ListPage:
    """Return jobs that have one of the wanted values in each of some columns, and were created after `since`."""
    return _page(tx, _JOBS, wanted, after, limit, since, look)


def events(tx: Tx, wanted: ListFilter, after: str | None, limit: int, look: int = LOOK) -> ListPage:
    """Return events that have one of the wanted values in each of some columns."""
    return _page(tx, _EVENTS, wanted, after, limit, None, look)


def deliveries(
    tx: Tx, wanted: ListFilter, after: str | None, limit: int, look: int = LOOK
) -> ListPage:
    """Return deliveries, each with the type and the job of its event."""
    return _page(tx, _DELIVERIES, wanted, after, limit, None, look)


def _page(
    tx: Tx,
    of: _List,
    wanted: ListFilter,
    after: str | None,
    limit: int,
    since: datetime | None,
    look_at: int,
) -> ListPage:
    if not all(wanted.values()):
        return ListPage([], None)
    known: dict[str, Any] = {
        **{f"rest_{name}": values for name, values in wanted.items()},
        **{f"one_{name}": values[0] for name, values in wanted.items()},
        "since": since,
        "floor": earliest(of.prefix, max(since, _OLDEST) - _EARLIER) if since else "",
        "after": after or f"{of.prefix}_{_END}",
    }
    way = _shortest(tx, of, wanted, known)
    values = wanted[way.column] if way else ("",)
    known |= _numbered(values)
    rest = tuple(name for name in wanted if way is None or name not in way.columns)
    paths = tuple(
        one.column for one in of.open(wanted) if one.column in rest and len(wanted[one.column]) == 1
    )
    sought = look(of.shown, of.table, way, len(values), rest, since is not None, paths)
    rows, floor = list[Row](), known["floor"]
    # With nothing left to try, what is looked at is what is found.
    for portion in _portions(look_at if way else look_at * _FAR) if sought.picky else (None,):
        span = None if portion is None else max(portion // len(values), limit + 1)
        edge = None if span is None else tx.scalar(sought.edge, known | {"span": span})
        reached = known | {"floor": floor if edge is None else edge, "most": limit + 1 - len(rows)}
        rows += tx.execute(sought.rows, reached).mappings()
        if len(rows) > limit:
            return ListPage(rows[:limit], rows[limit - 1]["id"])
        if edge is None:
            return ListPage(rows, None)
        known["after"] = edge
    return ListPage(rows, known["after"])


def _shortest(tx: Tx, of: _List, wanted: ListFilter, known: Mapping[str, Any]) -> IndexPath | None:
    """Return the way with the fewest rows on it, as far as a look ahead can tell; None: there is no way.

    It is the one on which so many rows lead furthest back, or to the end.
    """
    ways = of.open(wanted)
    if len(ways) < 2 or ways[0].sure:
        return ways[0] if ways else None

    def ahead(way: IndexPath) -> str:
        values = wanted[way.column]
        edge = look(of.shown, of.table, way, len(values), (), since=False).edge
        return tx.scalar(edge, {**known, **_numbered(values), "span": _FIRST}) or ""

    return min(ways, key=ahead)


def _numbered(values: Sequence[str]) -> dict[str, str]:
    return {f"value_{n}": value for n, value in enumerate(values)}


def _portions(left: int) -> Iterator[int]:
    portion = min(_FIRST, left)
    while left > 0:
        yield min(portion, left)
        left -= portion
        portion *= _GROWS
