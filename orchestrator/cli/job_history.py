"""What a job's timeline comes to: who told us, how often we heard and had to ask, and what stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Failure
from orchestrator.cli.terminal import Record

#: Pages of two hundred entries: a job that is asked about for days has more, and they say nothing new.
_PAGES = 10
TELLERS = {
    "push": "told by push",
    "poll": "no push came, a poll found it",
    "submit": "told by the submit answer",
    "lookup": "found by asking for its id",
    "clock": "told by the clock",
    "operator": "ended by an operator",
}


@dataclass(frozen=True, slots=True)
class History:
    """Counts of one job. `trouble` is why the last request to the vendor failed, if it did."""

    pushes: int
    polls: int
    last_push: datetime | None
    deliveries: Mapping[str, int]
    trouble: str

    @property
    def heard(self) -> str:
        """How often the vendor told us, and how often we had to ask: `2 pushes, 1 poll`."""
        return f"{self.pushes} push{'' if self.pushes == 1 else 'es'}, {polls(self.polls)}"

    @property
    def told(self) -> str:
        """What became of telling others: `1 delivery delivered`; nothing where nobody was to be told."""
        count = sum(self.deliveries.values())
        if not count:
            return ""
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.deliveries.items()))
        return f"{'1 delivery' if count == 1 else f'{count} deliveries'}: {states}"


def polls(count: int) -> str:
    """Return `1 poll`."""
    return f"{count} poll{'' if count == 1 else 's'}"


def history(client: Client, job: Record) -> History:
    """Return what is known of a job. Raises `Failure`."""
    entries: list[Record] = []
    after = None
    for _ in range(_PAGES):
        page = client.get(f"/v1/jobs/{job['id']}/timeline", limit=200, after=after)
        entries += page["data"]
        after = page["next_cursor"]
        if not page["has_more"]:
            break
    kinds = Counter(entry["kind"] for entry in entries)
    pushed = [entry["at"] for entry in entries if entry["kind"] == "push" and entry.get("at")]
    # One delivery per event and subscriber; what became of it is its newest word.
    owed = {
        entry.get("delivery"): entry.get("status")
        for entry in entries
        if entry["kind"] == "delivery"
    }
    return History(
        kinds["push"],
        kinds["poll"],
        datetime.fromisoformat(pushed[-1]) if pushed else None,
        Counter(str(state) for state in owed.values()),
        _trouble(entries),
    )


def _trouble(entries: list[Record]) -> str:
    """Return why the vendor could not be asked the last time; nothing if it has been heard of since."""
    spoken = [
        one
        for one in entries
        if one["kind"] in ("submit", "poll", "push") and one.get("outcome") != "begun"
    ]
    if not spoken or spoken[-1]["kind"] == "push" or not spoken[-1].get("reason"):
        return ""
    return f"{spoken[-1]['kind']}: {spoken[-1].get('outcome') or 'failed'} ({spoken[-1]['reason']})"


def known(client: Client, job: Record) -> History | None:
    """Return what is known of a job; None where the server does not say it now, which changes nothing of the job."""
    try:
        return history(client, job)
    except Failure:
        return None


def teller(job: Record, past: History | None) -> str:
    """Return who told us how a job ended, and how often we heard and had to ask, as far as that is known."""
    who = TELLERS.get(str(job.get("resolved_by")), "")
    heard = past.heard if past else ""
    return f"{who} ({heard})" if who and heard else who or heard
