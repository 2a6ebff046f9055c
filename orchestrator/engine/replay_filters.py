"""The filters of subscribers in a replay: what does not match the filter of now is not sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, one_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import event
from orchestrator.engine.replay_contract import Candidate
from orchestrator.events.filters import compiled
from orchestrator.foundation.json_codec import parse
from orchestrator.foundation.states import EventType


class Filtered(NamedTuple):
    """A candidate, its event, and the filter of its subscriber as text."""

    candidate: Candidate
    event_id: str
    filter: str | None


def judged(tx: Tx, rows: Sequence[Filtered]) -> list[Candidate]:
    """Return the candidates; one whose event the filter does not match does not fit.

    A test event was meant for its subscriber, whatever its filter. Reads bodies only for filters.
    """
    asked = {row.event_id for row in rows if row.filter is not None and row.candidate.fits}
    bodies = {one[0]: one[1] for one in _BODIES(tx, sorted(asked))} if asked else {}
    return [
        row.candidate
        if row.filter is None or row.event_id not in bodies
        else row.candidate._replace(fits=compiled(row.filter).matches(parse(bodies[row.event_id])))
        for row in rows
    ]


_BODIES = BulkSelect(
    sa.select(event.c.id, event.c.body).where(
        one_of(event.c.id), event.c.type != sa.literal_column(f"'{EventType.TEST}'")
    )
)
