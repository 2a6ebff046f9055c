"""What is learned of latencies and lost pushes: each end once, and no query outside its bounds.

Invariants 25 to 28 of every commit, and 29 of the end of a run.

25  What is stored of a key only fades: no process overwrites what another one has added.
26  What is added are the latencies of jobs of this key that their vendor ended, each at most once.
    A write whose confirmation was lost may count twice if another process writes before the retry.
27  An answer that a job is at work makes it due no sooner, and no later, than its policy allows.
28  An account is degraded only after several ends that queries found.
29  What a process has noted that lives until the end is stored.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.jobs.latency import BOUNDS
from tests.simulate.committed_rows import CommittedRows, EventRow, JobRow, LatencyRow
from tests.simulate.loop import Process
from tests.simulate.warm import FIXED, POLL
from tests.simulate.writers import CommitFate

if TYPE_CHECKING:
    from tests.simulate.replica import Replica
    from tests.simulate.world import World

#: Seconds after which an end that was noted is stored.
STORED_WITHIN = 15.0
#: Seconds between an answer and the next query of a job, at least.
LEAST = 5.0
#: Ends in a row that queries found, before an account is degraded.
MISSED = 3
#: Counts are rounded to four digits, in 64 buckets.
_ROUNDED = 0.01
_DAY = 86_400_000


class Key(NamedTuple):
    account: str
    model: str
    capability: str


class _End(NamedTuple):
    """The buckets of the least and the greatest latency of a job, and the process that knows it."""

    low: int
    high: int
    by_query: bool
    process: Process | None


class _Added:
    """What was added to a key since the start, and what of it may be counted again."""

    def __init__(self) -> None:
        self.counts = [0.0] * len(BOUNDS)
        self.pushed = self.lost = 0.0
        self.again = [0.0] * len(BOUNDS)
        #: The last write, if it was not confirmed.
        self.doubtful: tuple[str, list[float]] | None = None


class LearningChecker:
    """Compares what is stored with the ends of jobs."""

    def __init__(self, world: World, committed: CommittedRows) -> None:
        self._world = world
        self._ends: defaultdict[Key, list[_End]] = defaultdict(list)
        self._added: defaultdict[Key, _Added] = defaultdict(_Added)
        #: The greatest usual latency that was known of a key, in seconds.
        self._usual = {Key(*row[:3]): usual(_counts(row)) for row in committed.latencies.values()}
        self._missed: Counter[str] = Counter()
        #: Until when a process may have something to store.
        self.awake_until = 0.0

    def stay_awake(self) -> None:
        """Let ticks go on for a while: a process has something to store."""
        self.awake_until = self._world.loop.time() + STORED_WITHIN
        self._world.wake_tickers()

    def commit(self, committed: CommittedRows, by: Replica) -> Iterator[str]:
        """Yield what the last commit violates."""
        for before, row in committed.changed_jobs:
            if row.state in ("succeeded", "failed") and (before is None or before != row):
                self._end(before, row, by)
            if before is not None and row.alive_at != before.alive_at:
                yield from self._bounds(before, row)
        for old, now in committed.changed_latencies:
            yield from self._store(old, now, by)
        for event in committed.new_events:
            if event.type == "account.push_degraded":
                yield from self._degraded(event)

    # -- ends and what is stored of them

    def _end(self, before: JobRow | None, row: JobRow, by: Replica) -> None:
        if before is not None and before.state == row.state:
            return
        if row.resolved_by == "poll":
            self._missed[row.account] += 1
        code = json.loads(row.error)["code"] if row.error else None
        if row.resolved_by not in ("push", "poll") or code not in (None, "vendor_failed"):
            return
        if row.submitted_at is None or row.finished_at is None or _is_lost(row):
            return
        age = max(0, row.finished_at - row.submitted_at)
        low = age if row.resolved_by == "push" else (row.alive_at or 0) - row.submitted_at
        doubtful = by.last_fate is CommitFate.UNCERTAIN
        # A clock reads microseconds.
        span = _bucket(min(low, age) - 2), _bucket(age + 2)
        end = _End(*span, row.resolved_by == "poll", None if doubtful else by.process)
        self._ends[_key(row)].append(end)
        self.stay_awake()

    def _store(self, old: LatencyRow | None, now: LatencyRow, by: Replica) -> Iterator[str]:
        key, counts = Key(*now[:3]), _counts(now)
        left = _left(old, now.at) if old else [0.0] * len(counts)
        share = sum(left) / max(sum(_counts(old)), 1e-9) if old else 0.0
        new = [one - before for one, before in zip(counts, left, strict=True)]
        pushed = now.pushed - (old.pushed * share if old else 0.0)
        if min(new) < -_ROUNDED or pushed < -_ROUNDED:
            yield f"25: what was learned of {key} is gone: {min(new):.3f}, pushed {pushed:.3f}"
        added = self._added[key]
        if added.doubtful is not None and added.doubtful[0] != by.name:
            added.again = _plus(added.again, added.doubtful[1])
        added.doubtful = (by.name, new) if by.last_fate is CommitFate.UNCERTAIN else None
        added.counts, added.pushed = _plus(added.counts, new), added.pushed + pushed
        added.lost += now.lost - (old.lost * share if old else 0.0)
        self._usual[key] = max(self._usual.get(key, 0.0), usual(counts))
        yield from self._excess(key, added)

    def _excess(self, key: Key, added: _Added) -> Iterator[str]:
        """Check that no more ends are stored, of no latency range, than there were (26)."""
        ends, slack = self._ends[key], _ROUNDED * (1 + len(self._ends[key]))
        once = [one - again for one, again in zip(added.counts, added.again, strict=True)]
        shorter = list(accumulate(once))
        longer = list(accumulate(reversed(once)))[::-1]
        for place in range(len(BOUNDS)):
            least = sum(end.low <= place for end in ends)
            most = sum(end.high >= place for end in ends)
            if shorter[place] > least + slack or longer[place] > most + slack:
                yield (
                    f"26: of {key} {shorter[place]:.3f} ends up to {BOUNDS[place]} s are stored,"
                    f" and {longer[place]:.3f} beyond the bound before; there were at most {least}"
                    f" and {most}"
                )
                return
        asked, slack = sum(end.by_query for end in ends), slack + sum(added.again)
        if added.pushed > len(ends) + slack or added.lost > asked + slack:
            yield (
                f"26: of {key} {added.pushed:.3f} pushes and {added.lost:.3f} losses are stored;"
                f" {len(ends)} jobs ended, and queries found {asked} of them"
            )

    def forgotten(self) -> Iterator[str]:
        """Yield what is not stored although the process that noted it lives (29)."""
        living = {id(each.process) for each in self._world.replicas if each.is_up}
        for key, ends in sorted(self._ends.items()):
            noted = sum(end.process is not None and id(end.process) in living for end in ends)
            stored = sum(self._added[key].counts)
            if stored < noted - _ROUNDED * (1 + noted):
                yield f"29: {noted} ends of {key} were noted, and {stored:.3f} are stored"

    # -- queries

    def _bounds(self, before: JobRow, row: JobRow) -> Iterator[str]:
        """Check when a job is due that was reported to be at work (27)."""
        if row.state not in ("submitted", "processing") or row.claimed_by is not None:
            return
        if row.due_at is None or row.alive_at is None or row.submitted_at is None:
            return
        wait = (row.due_at - row.alive_at) / 1000
        age = max(0.0, (row.alive_at - row.submitted_at) / 1000)
        longest = float(POLL["max_interval"])
        if row.account != FIXED and row.outputless_since is None:
            longest = max(longest, age or 4 * self._usual.get(_key(row), 0.0))
        if wait > longest + 0.01:
            yield f"27: {row.id}, {age:.3f} s old, is due in {wait:.3f} s, and not in {longest:.3f}"
        # On SQLite an operator's wish may be in the same commit.
        answered = row.asks > before.asks and not self._world.plan.sqlite
        if answered and wait < LEAST - 0.01:
            yield f"27: {row.id} has been asked about, and is due again in {wait:.3f} s"

    def _degraded(self, event: EventRow) -> Iterator[str]:
        data = json.loads(event.body)["data"]
        silent, missed = data["completions_without_push"], self._missed[data["name"]]
        if silent < MISSED or missed < silent:
            yield f"28: {data['name']} is degraded by {silent} ends without a push, of {missed}"


def usual(counts: Sequence[float]) -> float:
    """Return a latency that four of five do not exceed: the median, with room for live jobs."""
    total, below = sum(counts), 0.0
    for bound, count in zip(BOUNDS, counts, strict=True):
        below += count
        if below >= 0.8 * total:
            return bound
    return BOUNDS[-1]


def _is_lost(row: JobRow) -> bool:
    """True if we have given the job up: its vendor does not know it."""
    return row.error is not None and "knows no such task" in json.loads(row.error)["message"]


def _left(row: LatencyRow, at: int) -> list[float]:
    """Return what is left of counts: half of them in a day, later where they are few."""
    counts = _counts(row)
    half_life = _DAY * max(1.0, 100 / max(sum(counts), 1e-9))
    share = 0.5 ** (max(0, at - row.at) / half_life)
    return [count * share for count in counts]


def _counts(row: LatencyRow) -> list[float]:
    found: list[float] = json.loads(row.counts)
    return found


def _plus(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _bucket(ms: int) -> int:
    return min(bisect_left(BOUNDS, ms / 1000), len(BOUNDS) - 1)


def _key(row: JobRow) -> Key:
    return Key(row.account, row.model, row.capability)
