"""The order of submissions: none before its start, the keys in turn, the ranks inside a key.

Invariants 22 to 24 of every commit. A job is compared from the commit on with which it was due.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.simulate.committed_rows import CommittedRows, JobRow
from tests.simulate.next_due import virtual_time

#: Turns of another key while a key has due jobs: one, and one that had begun before. A job that is
#: queued again is due a moment before its account may be claimed from.
PASSED_OVER = 2


class Turns:
    """Counts for each key with due jobs how often the others were served meanwhile."""

    def __init__(self) -> None:
        #: By account and key: turns of the other keys since its job was due and passed over.
        self._passed: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def violations(self, committed: CommittedRows, now: float, skew: float) -> Iterator[str]:
        """Yield what the submissions of the last commit violate."""
        begun = [row for old, row in committed.changed_jobs if old and _begins(old, row)]
        before = {row.id: old for old, row in committed.changed_jobs if old is not None}
        waiting = [
            old
            for row in committed.jobs.values()
            if (old := before.get(row.id, row)).state == "queued"
            and row.state in ("queued", "submitting")
            and virtual_time(old.due_at or 0) <= now - skew - 1
            # Too late for a submission: it expires.
            and virtual_time(old.deadline_at) > now + skew
        ]
        for row in begun:
            early = virtual_time(row.start_after or 0) - now - skew
            # A clock reads whole microseconds of this time.
            if row.start_after and early > 1e-6:
                yield f"22: {row.id} is submitted {early:.3f} s before its start"
            yield from self._passed_over(row, waiting, begun)
        for row in begun:
            self._passed.pop((row.account, row.fairness_key), None)
        keys = {(row.account, row.fairness_key) for row in waiting}
        for key in self._passed.keys() - keys:
            del self._passed[key]

    def _passed_over(
        self, row: JobRow, waiting: list[JobRow], begun: list[JobRow]
    ) -> Iterator[str]:
        served = {(one.account, one.fairness_key) for one in begun}
        taken = {one.id for one in begun}
        mine = [one for one in waiting if one.account == row.account]
        for key in {one.fairness_key for one in mine}:
            if (row.account, key) in served:
                continue
            others = self._passed[row.account, key]
            others[row.fairness_key] += 1
            if others[row.fairness_key] > PASSED_OVER:
                yield f"23: key {key!r} of {row.account} waits, and {row.fairness_key!r} is served"
        for one in mine:
            same = one.fairness_key == row.fairness_key and one.id not in taken
            if same and one.queue_rank < row.queue_rank:
                yield f"24: {row.id} is submitted before {one.id} of a higher priority"


def _begins(before: JobRow, row: JobRow) -> bool:
    return before.state == "queued" and row.state == "submitting"
