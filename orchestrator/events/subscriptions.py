"""The subscriptions of a database in memory: which subscribers an event is delivered to.

`current` reads them once for each change of the subscribers, by any process: a trigger replaces the
token of `subscriber_version` with every change that matters. The token and the rows are read in one
statement, so they belong together; a token names one state of the subscribers for ever, also after
a rollback, a failover or a copy of the database.

A filter is found by one of its keys (`filters.Filter.keys`), so that the cost of an event does not
grow with the filters that ask for other values. Those without a key are tested one by one.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, one_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import subscriber, subscriber_version
from orchestrator.events.filters import Filter, Key, compiled, values_at
from orchestrator.foundation.json_codec import Raw, encode, parse

#: States of subscribers that are kept: a process has one database, and tests have several.
_MOST = 4


class Recipient(NamedTuple):
    """A subscriber, and its state."""

    id: str
    state: str


@lru_cache(maxsize=4096)
def _globs(types: str) -> tuple[str, ...]:
    return tuple(json.loads(types))


class _Group:
    """Subscribers with the same types and the same filter."""

    __slots__ = ("filter", "globs", "recipients")

    def __init__(self, types: str, found: Filter | None) -> None:
        self.globs = _globs(types)
        self.filter = found
        self.recipients: list[Recipient] = []


class Subscriptions:
    """The subscribers as one token names them. It does not change."""

    def __init__(self, rows: Iterable[Sequence[str]]) -> None:
        """Take the id, types, state and filter of each subscriber."""
        groups: dict[tuple[str, str | None], _Group] = {}
        for subscriber_id, types, state, text in rows:
            if (group := groups.get((types, text))) is None:
                found = None if text is None else compiled(text)
                group = groups[types, text] = _Group(types, found)
            group.recipients.append(Recipient(subscriber_id, state))
        self._plain = [group for group in groups.values() if group.filter is None]
        filtered = [group for group in groups.values() if group.filter is not None]
        self._scanned: list[_Group] = []
        self._found: defaultdict[tuple[str, ...], dict[str | float, list[_Group]]]
        self._found = defaultdict(dict)
        self._index(filtered)
        #: The fields that filters read.
        self.names = frozenset[str]().union(*(one.names for one in _filters(filtered)))
        self.has_filters = bool(filtered)

    def _index(self, groups: Sequence[_Group]) -> None:
        """Put each group under the keys that the fewest others have."""
        choices = [(group, found.keys) for group in groups if (found := group.filter)]
        used = Counter(chain.from_iterable(chain.from_iterable(keys for _, keys in choices)))
        for group, sets in choices:
            if not sets:
                self._scanned.append(group)
                continue
            chosen: Iterable[Key] = sets[0]
            if len(sets) > 1:
                chosen = min(sets, key=lambda keys: sum(map(used.__getitem__, keys)))
            for path, value in chosen:
                self._found[path].setdefault(value, []).append(group)

    def recipients(self, kind: str, body: Mapping[str, Any] | None) -> Iterator[Recipient]:
        """Yield the subscribers of an event. `body` may be None if there are no filters."""
        for group in self._plain:
            if matches(group.globs, kind):
                yield from group.recipients
        if body is None:
            return
        # Once each: a filter may have several keys.
        candidates = dict.fromkeys(chain(self._scanned, self._candidates(body)))
        for group in candidates:
            if matches(group.globs, kind) and group.filter and group.filter.matches(body):
                yield from group.recipients

    def _candidates(self, body: Mapping[str, Any]) -> Iterator[_Group]:
        for path, found in self._found.items():
            for value in values_at(body, path):
                yield from found.get(value, ())


def _filters(groups: Iterable[_Group]) -> Iterator[Filter]:
    return (group.filter for group in groups if group.filter is not None)


def current(tx: Tx) -> Subscriptions:
    """Return the subscriptions as this transaction sees them. One statement."""
    return ask(tx)()


def ask(tx: Tx) -> Callable[[], Subscriptions]:
    """Return a function that returns `current`, to be called once: see `statements.ask`."""
    known = _known
    return partial(_answered, known, _CHANGED.ask(tx, [*known] or [""]))


def _answered(
    known: Mapping[str, Subscriptions], answer: Callable[[], list[list[Any]]]
) -> Subscriptions:
    global _known
    rows = answer()
    token = next((row[0] for row in rows if row[1] is None), None)
    if token is not None and token in known:
        return known[token]
    subscriptions = Subscriptions(row[1:] for row in rows if row[1] is not None)
    if token is not None:
        newest = [*known.items()][-_MOST + 1 :]
        # Replaced, not changed: other threads read it.
        _known = dict([*newest, (token, subscriptions)])
    return subscriptions


#: By token, the newest last.
_known: dict[str, Subscriptions] = {}


def _changed() -> sa.Select[Any]:
    """Return the token; and, if it is not a known one, all subscribers that have no lane's row."""
    token = sa.select(subscriber_version.c.token).scalar_subquery()
    none: sa.ColumnElement[str] = sa.literal_column("'none'")
    version = sa.select(sa.func.coalesce(token, none).label("token")).subquery("version")
    # An outer join, so that both databases look at the token first: no row is read for a known one.
    found = version.join(subscriber, subscriber.c.callback_origin.is_(None), isouter=True)
    null, names = sa.null(), ("id", "types", "state", "filter")
    # As text: a filter is compiled once for each.
    columns = [sa.type_coerce(subscriber.c[name], sa.Text).label(name) for name in names]
    rows = sa.select(null.label("token"), *columns).select_from(found)
    rows = rows.where(sa.not_(one_of(version.c.token)))
    first = sa.select(subscriber_version.c.token, *(null.label(name) for name in names))
    return sa.select(*sa.union_all(first, rows).subquery().c)


_CHANGED = BulkSelect(_changed())


def opened(body: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    """Return the body of an event as filters see it.

    What passes through the service as text is parsed only if a filter may read it.
    """
    data = {
        name: value if not isinstance(value, Raw) else parse(encode(value))
        for name, value in body["data"].items()
        if not isinstance(value, Raw) or name in names
    }
    return {**body, "data": data}


@lru_cache(maxsize=65536)
def matches(globs: tuple[str, ...], kind: str) -> bool:
    """Return whether one of the globs (`job.*`) matches an event type."""
    return any(fnmatchcase(kind, glob) for glob in globs)
