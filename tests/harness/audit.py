"""The auditor: compares, from outside, what vendors and a subscriber saw with what is in the database."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import sqlalchemy as sa

from orchestrator.database.postgres import engine as postgres

Json = dict[str, Any]
Kind = Literal["lost", "duplicated", "stuck", "wrong"]

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


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is not as it must be."""

    kind: Kind
    words: str


class Books:
    """A service's database, of either kind, read after its processes have ended."""

    def __init__(self, url: str) -> None:
        self.is_file = not postgres.is_postgres(url)
        self._url = sa.make_url(f"sqlite:///file:{url.partition(':///')[2]}?mode=ro&uri=true")
        if not self.is_file:
            self._url = postgres.url_of(url)

    def rows(self, query: str) -> list[sa.RowMapping]:
        """Return what a query finds."""
        engine = sa.create_engine(self._url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return [*connection.execute(sa.text(query)).mappings()]

    def count(self, query: str) -> Counter[str]:
        """Return how often each value of a query's first column occurs."""
        return Counter(str(next(iter(row.values()))) for row in self.rows(query))


@dataclass(frozen=True, slots=True)
class Seen:
    """What parties outside the system know: ids that callers were given, and the simulator's report."""

    owned: Sequence[str]
    report: Json
    #: Jobs that each account may have at its vendor at once.
    limit: int


def complaints(books: Books, seen: Seen) -> list[Complaint]:
    """Return everything that is not as it must be."""
    return [*_wrong_jobs(books, seen), *_unkept_pushes(books, seen.report), *_wrong_events(books),
            *_wrong_deliveries(books), *_unheard(books, seen), *_wrong_renders(seen), *_broken_file(books)]  # fmt: skip


def _wrong_jobs(books: Books, seen: Seen) -> Iterator[Complaint]:
    owned, jobs = set(seen.owned), books.rows("SELECT id, account, state, due_at FROM job")
    known = {row["id"] for row in jobs}
    yield from (Complaint("lost", f"acknowledged and gone: {job}") for job in sorted(owned - known))
    yield from (
        Complaint("duplicated", f"nobody was told of {job}") for job in sorted(known - owned)
    )
    if len(owned) != len(seen.owned):
        yield Complaint("duplicated", "two orders were answered with one job")
    for row in jobs:
        if row["state"] not in FINAL:
            yield Complaint("stuck", f"{row['id']} is still {row['state']}")
        elif row["due_at"] is not None:
            yield Complaint("stuck", f"{row['id']} is final and due")
        elif row["state"] == "expired" and row["account"] in ASKABLE:
            yield Complaint("stuck", f"{row['id']} expired and could be asked about")


def _unkept_pushes(books: Books, report: Json) -> Iterator[Complaint]:
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
            yield Complaint("lost", f"a push was acknowledged and is not kept: {push}")


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


def _wrong_events(books: Books) -> Iterator[Complaint]:
    told: defaultdict[str, list[tuple[int, str, bool]]] = defaultdict(list)
    for row in books.rows(
        "SELECT job_id, sequence, type, body FROM event WHERE job_id IS NOT NULL ORDER BY sequence"
    ):
        told[row["job_id"]].append(
            (row["sequence"], row["type"], json.loads(row["body"]).get("late", False))
        )
    for row in books.rows("SELECT id FROM job"):
        events = told[row["id"]]
        if [sequence for sequence, _, _ in events] != list(range(1, len(events) + 1)):
            yield Complaint("wrong", f"{row['id']}: gaps between its events: {events}")
        ends = [kind for _, kind, late in events if kind.removeprefix("job.") in FINAL and not late]
        if len(ends) != 1:
            yield Complaint(
                "duplicated" if ends else "lost", f"{row['id']}: {len(ends)} completions: {ends}"
            )


def _wrong_deliveries(books: Books) -> Iterator[Complaint]:
    """One delivery, and a delivered one, for each event and standing subscriber whose globs match it."""
    found = books.rows("SELECT event_id, subscriber_id, state FROM delivery")
    owed = Counter((row["event_id"], row["subscriber_id"]) for row in found)
    people = books.rows("SELECT id, types FROM subscriber WHERE callback_origin IS NULL")
    wanted = {
        (event["id"], one["id"])
        for event in books.rows("SELECT id, type FROM event")
        for one in people
        if any(fnmatchcase(event["type"], glob) for glob in json.loads(one["types"]))
    }
    yield from (
        Complaint("lost", f"no delivery of {event} to {to}") for event, to in wanted - owed.keys()
    )
    yield from (
        Complaint("duplicated", f"delivery of {event} to {to}")
        for event, to in owed.keys() - wanted
    )
    yield from (
        Complaint("duplicated", f"{n} deliveries of {one}") for one, n in owed.items() if n > 1
    )
    for state, count in Counter(row["state"] for row in found).items():
        if state != "delivered":
            yield Complaint(
                "stuck" if state == "pending" else "lost", f"{count} deliveries are {state}"
            )


def _unheard(books: Books, seen: Seen) -> Iterator[Complaint]:
    """The subscriber heard one ending of each job, under one id, with the bytes that are in the books."""
    heard: Json = seen.report["subscriber"]
    completions: Mapping[str, int] = heard["completions"]
    silent = set(seen.owned) - completions.keys()
    yield from (Complaint("lost", f"the subscriber never heard of {job}") for job in sorted(silent))
    twice = {job: count for job, count in completions.items() if count != 1}
    yield from (
        Complaint("duplicated", f"the subscriber heard {n} endings of {job}")
        for job, n in twice.items()
    )
    false = sum(not one["verified"] for one in heard["deliveries"])
    if false:
        yield Complaint("wrong", f"{false} deliveries did not verify")
    written = {
        row["id"]: hashlib.sha256(row["body"]).hexdigest()
        for row in books.rows("SELECT id, body FROM event")
    }
    for one, digest in zip(heard["deliveries"], seen.report.get("digests", ()), strict=False):
        if written.get(one["webhook_id"]) != digest:
            yield Complaint(
                "wrong", f"{one['webhook_id']} came with other bytes than are in the books"
            )


def _wrong_renders(seen: Seen) -> Iterator[Complaint]:
    for one in seen.report["double_renders"]:
        if one["vendor"] in ASKABLE:
            yield Complaint("duplicated", f"rendered twice: {one}")
    for vendor, times in seen.report.get("repeated", {}).items():
        if vendor in ASKABLE and times:
            yield Complaint(
                "duplicated",
                f"{vendor} was sent {times} orders again that it has, instead of being asked",
            )
    for vendor, peak in seen.report["peaks"].items():
        if peak > seen.limit:
            yield Complaint(
                "wrong", f"{vendor} had {peak} renders at once, and {seen.limit} are allowed"
            )
    yield from (Complaint("wrong", f"violation: {one}") for one in seen.report["violations"])


def _broken_file(books: Books) -> Iterator[Complaint]:
    found = books.rows("PRAGMA integrity_check") if books.is_file else []
    yield from (
        Complaint("wrong", f"database: {row}") for row in found if row["integrity_check"] != "ok"
    )
