"""The auditor: compares the database with what vendors, callers and a subscriber observed.

Run it after all processes have ended: `findings(ServiceDatabase(url), Observed(...))`.
"""

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

#: Accounts, and prefixes of vendors, that support a lookup by external id: each job is rendered
#: exactly once, whatever fails.
QUERYABLE = frozenset({"kling", "kling_new", "kling_v2", "cloudsway"})
FINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
#: The words of the vendors for the state that a push reports.
PUSH_WORDS: Mapping[str, frozenset[str]] = {
    "submitted": frozenset({"submitted", "queued", "QUEUED", "processing"}),
    "processing": frozenset({"processing", "in_progress", "IN_PROGRESS"}),
    "succeeded": frozenset({"succeed", "succeeded", "completed", "SUCCESS"}),
    "failed": frozenset({"failed", "FAILURE"}),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation of a guarantee."""

    kind: Kind
    words: str


class ServiceDatabase:
    """The database of a service, of either kind, read after its processes have ended."""

    def __init__(self, url: str) -> None:
        self.is_file = not postgres.is_postgres(url)
        self._url = sa.make_url(f"sqlite:///file:{url.partition(':///')[2]}?mode=ro&uri=true")
        if not self.is_file:
            self._url = postgres.url_of(url)

    def rows(self, query: str) -> list[sa.RowMapping]:
        """Return the rows of a query."""
        engine = sa.create_engine(self._url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return [*connection.execute(sa.text(query)).mappings()]

    def count(self, query: str) -> Counter[str]:
        """Count the values of the first column of a query."""
        return Counter(str(next(iter(row.values()))) for row in self.rows(query))


@dataclass(frozen=True, slots=True)
class Observed:
    """Facts from outside the service: the job ids that callers got, and the simulator's report."""

    owned: Sequence[str]
    report: Json
    #: Jobs that each account may have at its vendor at once.
    limit: int


def findings(database: ServiceDatabase, seen: Observed) -> list[Finding]:
    """Return every violation of a guarantee."""
    return [
        *_jobs(database, seen),
        *_pushes(database, seen.report),
        *_events(database),
        *_deliveries(database),
        *_received(database, seen),
        *_order(database, seen.report),
        *_renders(seen),
        *_database_file(database),
    ]


def _jobs(database: ServiceDatabase, seen: Observed) -> Iterator[Finding]:
    """Every acknowledged job is stored and final; no other job exists."""
    owned, jobs = set(seen.owned), database.rows("SELECT id, account, state, due_at FROM job")
    known = {row["id"] for row in jobs}
    yield from (Finding("lost", f"acknowledged and gone: {job}") for job in sorted(owned - known))
    yield from (
        Finding("duplicated", f"no caller got the id of {job}") for job in sorted(known - owned)
    )
    if len(owned) != len(seen.owned):
        yield Finding("duplicated", "two orders were answered with one job")
    for row in jobs:
        if row["state"] not in FINAL:
            yield Finding("stuck", f"{row['id']} is still {row['state']}")
        elif row["due_at"] is not None:
            yield Finding("stuck", f"{row['id']} is final and due")
        elif row["state"] == "expired" and row["account"] in QUERYABLE:
            yield Finding("stuck", f"{row['id']} expired although its vendor supports a lookup")


def _pushes(database: ServiceDatabase, report: Json) -> Iterator[Finding]:
    """Every push that was answered with 200 is stored, with its task and state in the body."""
    stored: defaultdict[str, list[frozenset[str]]] = defaultdict(list)
    for row in database.rows("SELECT body FROM push WHERE outcome NOT LIKE 'rejected%'"):
        values = frozenset(_scalars(json.loads(row["body"])))
        for value in values:
            stored[value].append(values)
    # A gateway's push names its own task, or Kling's.
    tasks: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for render in report["renders"]:
        tasks[render["vendor"], render["external_task_id"]].add(render["vendor_task_id"])
    for push in report["pushes"]:
        ids = {push["vendor_task_id"], *tasks[push["vendor"], push["external_task_id"]]}
        bodies = (values for task_id in ids for values in stored[task_id])
        words = PUSH_WORDS[push["state"]]
        if push["status"] == 200 and not any(values & words for values in bodies):
            yield Finding("lost", f"a push was acknowledged and is not stored: {push}")


def _scalars(value: Any) -> Iterator[str]:
    """Yield the strings and numbers in a JSON value."""
    match value:
        case dict():
            for item in value.values():
                yield from _scalars(item)
        case list():
            for item in value:
                yield from _scalars(item)
        case str() | int():
            yield str(value)


def _events(database: ServiceDatabase) -> Iterator[Finding]:
    """The events of a job are numbered without gaps, and exactly one of them is its completion."""
    by_job: defaultdict[str, list[tuple[int, str, bool]]] = defaultdict(list)
    for row in database.rows(
        "SELECT job_id, sequence, type, body FROM event WHERE job_id IS NOT NULL ORDER BY sequence"
    ):
        late = json.loads(row["body"]).get("late", False)
        by_job[row["job_id"]].append((row["sequence"], row["type"], late))
    for row in database.rows("SELECT id FROM job"):
        events = by_job[row["id"]]
        if [sequence for sequence, _, _ in events] != list(range(1, len(events) + 1)):
            yield Finding("wrong", f"{row['id']}: gaps between its events: {events}")
        ends = [kind for _, kind, late in events if kind.removeprefix("job.") in FINAL and not late]
        if len(ends) != 1:
            yield Finding(
                "duplicated" if ends else "lost", f"{row['id']}: {len(ends)} completions: {ends}"
            )


def _deliveries(database: ServiceDatabase) -> Iterator[Finding]:
    """Each event has one delivered delivery to each subscriber whose globs match its type."""
    deliveries = database.rows("SELECT event_id, subscriber_id, state FROM delivery")
    owed = Counter((row["event_id"], row["subscriber_id"]) for row in deliveries)
    subscribers = database.rows("SELECT id, types FROM subscriber WHERE callback_origin IS NULL")
    wanted = {
        (event["id"], subscriber["id"])
        for event in database.rows("SELECT id, type FROM event")
        for subscriber in subscribers
        if any(fnmatchcase(event["type"], glob) for glob in json.loads(subscriber["types"]))
    }
    yield from (
        Finding("lost", f"no delivery of {event} to {to}") for event, to in wanted - owed.keys()
    )
    yield from (
        Finding("duplicated", f"delivery of {event} to {to}") for event, to in owed.keys() - wanted
    )
    yield from (
        Finding("duplicated", f"{count} deliveries of {pair}")
        for pair, count in owed.items()
        if count > 1
    )
    for state, count in Counter(row["state"] for row in deliveries).items():
        if state != "delivered":
            yield Finding(
                "stuck" if state == "pending" else "lost", f"{count} deliveries are {state}"
            )


def _received(database: ServiceDatabase, seen: Observed) -> Iterator[Finding]:
    """The subscriber got one completion of each job, under one id, with the stored bytes."""
    received: Json = seen.report["subscriber"]
    completions: Mapping[str, int] = received["completions"]
    missing = set(seen.owned) - completions.keys()
    yield from (
        Finding("lost", f"the subscriber got no completion of {job}") for job in sorted(missing)
    )
    yield from (
        Finding("duplicated", f"the subscriber got {count} completions of {job}")
        for job, count in completions.items()
        if count != 1
    )
    false = sum(not delivery["verified"] for delivery in received["deliveries"])
    if false:
        yield Finding("wrong", f"{false} deliveries did not verify")
    stored = {
        row["id"]: hashlib.sha256(row["body"]).hexdigest()
        for row in database.rows("SELECT id, body FROM event")
    }
    digests = seen.report.get("digests", ())
    for delivery, digest in zip(received["deliveries"], digests, strict=False):
        if stored.get(delivery["webhook_id"]) != digest:
            yield Finding("wrong", f"{delivery['webhook_id']} came with other bytes than stored")


def _order(database: ServiceDatabase, report: Json) -> Iterator[Finding]:
    """The ordered subscriber got all events of jobs, each after it had accepted those before it."""
    accepted: defaultdict[str, set[int]] = defaultdict(set)
    for job, sequence, is_accepted in report["ordered"]:
        if missing := {*range(1, sequence)} - accepted[job]:
            yield Finding("wrong", f"{job}: event {sequence} came before {sorted(missing)}")
        if is_accepted:
            accepted[job].add(sequence)
    for row in database.rows("SELECT job_id, sequence FROM event WHERE job_id IS NOT NULL"):
        if row["sequence"] not in accepted[row["job_id"]]:
            text = f"{row['job_id']}: the ordered subscriber got no event {row['sequence']}"
            yield Finding("lost", text)


def _renders(seen: Observed) -> Iterator[Finding]:
    """No vendor with a lookup rendered or got an order twice, and no account exceeded its limit."""
    for render in seen.report["double_renders"]:
        if render["vendor"] in QUERYABLE:
            yield Finding("duplicated", f"rendered twice: {render}")
    for vendor, times in seen.report.get("repeated", {}).items():
        if vendor in QUERYABLE and times:
            yield Finding("duplicated", f"{vendor} was sent {times} orders again without a lookup")
    for vendor, peak in seen.report["peaks"].items():
        if peak > seen.limit:
            yield Finding(
                "wrong", f"{vendor} had {peak} renders at once, and {seen.limit} are allowed"
            )
    yield from (Finding("wrong", f"violation: {each}") for each in seen.report["violations"])


def _database_file(database: ServiceDatabase) -> Iterator[Finding]:
    rows = database.rows("PRAGMA integrity_check") if database.is_file else []
    yield from (
        Finding("wrong", f"database: {row}") for row in rows if row["integrity_check"] != "ok"
    )
