"""The auditor: compares, from outside, what vendors and a subscriber saw with what is in the database file."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

Json = dict[str, Any]

#: Accounts, and vendors' prefixes, that can be asked by external id: one order is one render whatever happens.
ASKABLE = frozenset({"kling", "kling_new", "kling_v2", "cloudsway"})
FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
#: How vendors spell the state that a push is about.
SPELT: Mapping[str, frozenset[str]] = {
    "submitted": frozenset({"submitted", "queued", "QUEUED", "processing"}),
    "processing": frozenset({"processing", "in_progress", "IN_PROGRESS"}),
    "succeeded": frozenset({"succeed", "succeeded", "completed", "SUCCESS"}),
    "failed": frozenset({"failed", "FAILURE"}),
}


class Books:
    """A service's database, read after its process has ended."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def rows(self, query: str) -> list[sqlite3.Row]:
        """Return what a query finds."""
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query).fetchall()

    def count(self, query: str) -> Counter[str]:
        """Return how often each value of a query's one column occurs."""
        return Counter(str(row[0]) for row in self.rows(query))


def complaints(books: Books, owned: Sequence[str], report: Json) -> list[str]:
    """Return everything that is not as it must be. `owned` are the ids that callers were given."""
    return [
        *_lost_jobs(books, set(owned)),
        *_unkept_pushes(books, report),
        *_wrong_events(books),
        *_wrong_deliveries(books, set(owned), report["subscriber"]),
        *(f"rendered twice: {one}" for one in report["double_renders"] if one["vendor"] in ASKABLE),
        *(f"violation: {one}" for one in report["violations"]),
        *(f"database: {row[0]}" for row in books.rows("PRAGMA integrity_check") if row[0] != "ok"),
    ]


def _lost_jobs(books: Books, owned: set[str]) -> Iterator[str]:
    states = {row["id"]: row["state"] for row in books.rows("SELECT id, state FROM job")}
    yield from (f"acknowledged and gone: {job}" for job in sorted(owned - states.keys()))
    yield from (f"nobody was told of: {job}" for job in sorted(states.keys() - owned))
    yield from (f"{job} is still {state}" for job, state in states.items() if state not in FINAL)
    expired = books.rows("SELECT id, account FROM job WHERE state = 'expired'")
    yield from (f"{row['id']} expired and could be asked about" for row in expired if row["account"] in ASKABLE)
    yield from (f"{row[0]} is final and due" for row in books.rows("SELECT id FROM job WHERE due_at IS NOT NULL"))


def _unkept_pushes(books: Books, report: Json) -> Iterator[str]:
    """Every push that was answered with 200 has its row, with its words in it."""
    kept: defaultdict[str, list[frozenset[str]]] = defaultdict(list)
    for row in books.rows("SELECT body FROM push WHERE outcome NOT LIKE 'rejected%'"):
        words = frozenset(_words(json.loads(row["body"])))
        for word in words:
            kept[word].append(words)
    # A gateway's push names its own task, or Kling's.
    tasks: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for render in report["renders"]:
        tasks[render["vendor"], render["external_task_id"]].add(render["vendor_task_id"])
    for push in report["pushes"]:
        names = {push["vendor_task_id"], *tasks[push["vendor"], push["external_task_id"]]}
        told = (words for name in names for words in kept[name])
        if push["status"] == 200 and not any(words & SPELT[push["state"]] for words in told):
            yield f"a push was acknowledged and is not kept: {push}"


def _words(said: Any) -> Iterator[str]:
    match said:
        case dict():
            for value in said.values():
                yield from _words(value)
        case list():
            for value in said:
                yield from _words(value)
        case str() | int():
            yield str(said)


def _wrong_events(books: Books) -> Iterator[str]:
    told: defaultdict[str, list[tuple[int, str, bool]]] = defaultdict(list)
    for row in books.rows("SELECT job_id, sequence, type, body FROM event WHERE job_id IS NOT NULL ORDER BY sequence"):
        told[row["job_id"]].append((row["sequence"], row["type"], json.loads(row["body"]).get("late", False)))
    for job, events in told.items():
        if [sequence for sequence, _, _ in events] != list(range(1, len(events) + 1)):
            yield f"{job}: gaps between its events: {events}"
        ends = [kind for _, kind, late in events if kind.removeprefix("job.") in FINAL and not late]
        if len(ends) != 1:
            yield f"{job}: {len(ends)} completions: {ends}"


def _wrong_deliveries(books: Books, owned: set[str], heard: Json) -> Iterator[str]:
    for state, count in books.count("SELECT state FROM delivery").items():
        if state != "delivered":
            yield f"{count} deliveries are {state}"
    completions: Mapping[str, int] = heard["completions"]
    yield from (f"the subscriber never heard of {job}" for job in sorted(owned - completions.keys()))
    yield from (f"the subscriber heard {count} endings of {job}" for job, count in completions.items() if count != 1)
    false = sum(not one["verified"] for one in heard["deliveries"])
    if false:
        yield f"{false} deliveries did not verify"
