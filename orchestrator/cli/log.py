"""The event log from a cursor on, by long polls.

Each request is held until there are events; the answer is complete and contains the next cursor.
So nothing depends on a lasting connection, and a buffering proxy delays nothing. A request
without an answer is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Failure
from orchestrator.cli.lookup import EVENT
from orchestrator.foundation.clock import backoff
from orchestrator.foundation.ids import earliest, is_id
from orchestrator.schemas import LoggedEvent

#: Seconds of a long poll: a dead connection is noticed after about as long.
HOLD = 20
#: Seconds between requests, unless more events are waiting: single events then share an answer.
_PACE = 0.25
_LIMIT = 200
#: Backoff while the server is away (s): the first pause, its growth, the longest.
_FIRST, _FACTOR, _MOST = 0.2, 1.5, 5.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Events, oldest first. `after` is the next cursor; `more`: the next batch is waiting.

    `back`: the server had been away. `gap`: older events may be deleted and were not seen.
    """

    events: list[LoggedEvent]
    after: str
    more: bool = False
    back: bool = False
    gap: bool = False


def end(client: Client) -> str:
    """Return the cursor at the present end of the log."""
    return _cursor(client, client.get(EVENT.page, EVENT.path, wait=0, limit=1).next_cursor)


def since(client: Client, at: datetime) -> str:
    """Return the cursor before the first event at an instant or later: ids sort by time."""
    first = earliest("evt", at)
    before = client.get(EVENT.page, EVENT.path, after=first, limit=1).data
    return _cursor(client, before[0].id) if before else first


def follow(
    client: Client,
    after: str,
    types: str | None,
    unreachable: Callable[[Failure], None],
    hold: float = HOLD,
) -> Iterator[Batch]:
    """Yield events after a cursor, endlessly, and an empty batch after `hold` seconds without any.

    `unreachable` is called once per outage; the server is retried until it answers. Raises
    `Failure` if a retry cannot help: the key is revoked, or another server answers.
    """
    # The first request is not held: it returns what is there already.
    wait, back, tries = 0.0, False, 0
    while True:
        asked = time.monotonic()
        try:
            batch = _ask(client, after, types, wait, back)
        except Failure as failure:
            if failure.later is None:
                raise
            if not back:
                unreachable(failure)
            time.sleep(max(failure.later, backoff(_FIRST, tries, factor=_FACTOR, most=_MOST)))
            wait, back, tries = 0.0, True, tries + 1
            continue
        yield batch
        stands = batch.after == after
        after, wait, back, tries = batch.after, hold, False, 0
        # A server that shuts down answers at once, without events: pause then too.
        if stands or not batch.more:
            time.sleep(max(0.0, _PACE - (time.monotonic() - asked)))


def _ask(client: Client, after: str, types: str | None, wait: float, back: bool) -> Batch:
    query = {"wait": round(wait), "after": after, "type": types, "limit": _LIMIT}
    try:
        page = client.get(EVENT.page, EVENT.path, **query)
    except Failure as failure:
        problem = failure.document if isinstance(failure.document, dict) else {}
        if problem.get("code") != "cursor_gone":
            raise
        after = _cursor(client, problem.get("next_cursor"))
        return Batch([], after, more=True, back=back, gap=True)
    return Batch(page.data, _cursor(client, page.next_cursor), page.has_more, back)


def _cursor(client: Client, cursor: object) -> str:
    """Return a cursor that is an event's id. Raises `Failure`: any other would lose the place."""
    if not (isinstance(cursor, str) and is_id(cursor, "evt")):
        raise Failure(
            f"{client.server} returned no cursor of the event log",
            hint="is this the right --server?",
        )
    return cursor
