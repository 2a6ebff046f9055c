"""The log from a place on, for as long as somebody wants it: asked again and again for what came after.

Each question is held until there is an answer, and the answer is whole and says where to go on, so nothing depends on
a connection that stays, and a proxy that keeps streams back keeps nothing back. What was not answered is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Failure
from orchestrator.cli.terminal import Record
from orchestrator.foundation.clock import grown
from orchestrator.foundation.ids import earliest, is_id

#: Seconds a question is held: a line that went dead without a word is noticed after about this long.
HOLD = 20
#: Seconds between questions at least, unless there is more at once. Events that come one by one share an answer then.
_PACE = 0.25
_LIMIT = 200
#: Seconds between tries at a server that is away: the first pause, how it grows, and the longest.
_FIRST, _FACTOR, _MOST = 0.2, 1.5, 5.0


@dataclass(frozen=True, slots=True)
class Part:
    """Some events, oldest first. `after` is where to go on; `more` there is at once.

    `back`: the server had been away. `gap`: events before these may be deleted, and were not seen.
    """

    events: list[Record]
    after: str
    more: bool = False
    back: bool = False
    gap: bool = False


def end(client: Client) -> str:
    """Return the place where the log ends now."""
    return _place(client, client.get("/v1/events", wait=0, limit=1)["next_cursor"])


def since(client: Client, at: datetime) -> str:
    """Return the place before the first event of an instant or later: ids sort by time."""
    first = earliest("evt", at)
    before = client.get("/v1/events", after=first, limit=1)["data"]
    return _place(client, before[0]["id"]) if before else first


def follow(
    client: Client,
    after: str,
    types: str | None,
    lost: Callable[[Failure], None],
    hold: float = HOLD,
) -> Iterator[Part]:
    """Yield what comes after a place, without end, and an empty part when `hold` seconds brought nothing.

    `lost` is told, once, when the server cannot be asked; then it is tried again until it can. Raises `Failure` where
    that would not help: the key is no longer good, or what answers is not our server.
    """
    # The first question is not held: it tells what is there already, or that nothing is.
    wait, back, tries = 0.0, False, 0
    while True:
        asked = time.monotonic()
        try:
            part = _ask(client, after, types, wait, back)
        except Failure as failure:
            if failure.later is None:
                raise
            if not back:
                lost(failure)
            time.sleep(max(failure.later, grown(_FIRST, tries, factor=_FACTOR, most=_MOST)))
            wait, back, tries = 0.0, True, tries + 1
            continue
        yield part
        stands = part.after == after
        after, wait, back, tries = part.after, hold, False, 0
        # A server that is about to end answers at once, with nothing: that is no reason to hurry either.
        if stands or not part.more:
            time.sleep(max(0.0, _PACE - (time.monotonic() - asked)))


def _ask(client: Client, after: str, types: str | None, wait: float, back: bool) -> Part:
    try:
        page = client.get("/v1/events", wait=round(wait), after=after, type=types, limit=_LIMIT)
    except Failure as failure:
        problem = failure.document if isinstance(failure.document, dict) else {}
        if problem.get("code") != "cursor_gone":
            raise
        return Part([], _place(client, problem.get("next_cursor")), more=True, back=back, gap=True)
    return Part(page["data"], _place(client, page["next_cursor"]), page["has_more"], back)


def _place(client: Client, cursor: object) -> str:
    """Return a place that is one. Raises `Failure`: going on from anything else would lose the place we have."""
    if not (isinstance(cursor, str) and is_id(cursor, "evt")):
        raise Failure(
            f"{client.server} said no place in the log to go on from",
            hint="is this the right --server?",
        )
    return cursor
