"""What is wrong now, from documents of the API: the sentences of the overview.

Pure functions. The judgements are those of `orchestrator doctor`, of what the API alone can show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Json = dict[str, Any]
Times = tuple[tuple[str, str], ...]

PROBLEM, WARNING = "problem", "warning"
#: How far back failures of an account's own making, stuck jobs and dead letters are looked at.
_RECENT, _DAY, _WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
#: A job that is queued for longer is overdue.
_PATIENCE = timedelta(minutes=10)
#: Errors of jobs that are faults of the account, not of the job.
_OF_ACCOUNT = ("vendor_auth", "account_exhausted")
_HOLDS = ("unauthorized", "exhausted")
_STUCK = "job.stuck"
_DEGRADED, _PAUSED = "account.push_degraded", "account.paused"
#: The events that say since when an account is in a state, and why.
ACCOUNT_EVENTS = f"{_DEGRADED},{_PAUSED}"
_UNREACHABLE = "ingress.unreachable"
#: The events that say whether the public URL leads here.
INGRESS_EVENTS = f"{_UNREACHABLE},ingress.recovered"
_REFUSALS = ("mismatched", "unsigned", "stale")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `finding.{key}` of the catalogue, with `values` filled in.

    `finding.{key}.fix` says what to do. `path` and `query` are the page to do it on. `times` are
    instants of the API by what they are (`moment.{name}`), the beginning first. `words` are the
    vendor's.
    """

    key: str
    level: str
    path: str
    values: Json = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    times: Times = ()
    words: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Lists of the API: `failed` and `queued` jobs, `stuck` events, `callbacks` that fail, ..."""

    accounts: Json
    failed: Json
    queued: Json
    stuck: Json
    subscribers: Json
    callbacks: Json
    dead: Json
    account_events: Json
    ingress: Json
    #: False if no subscriber and no callback URL is known: no event is delivered.
    has_receivers: bool = True


def found(facts: Facts, now: datetime) -> list[Finding]:
    """Return what is wrong, problems first."""
    held = {row["name"] for row in facts.accounts["data"] if condition(row, now) == "held"}
    waiting = {row["name"] for row in facts.accounts["data"] if condition(row, now) != "active"}
    events = facts.account_events["data"]
    findings = [
        *_ingress(facts.ingress["data"]),
        *_no_accounts(facts.accounts["data"]),
        *(finding for row in facts.accounts["data"] for finding in of_account(row, now, events)),
        *_failures(facts.failed, now, held),
        *_queue(facts.queued, now, waiting),
        *stuck(facts.stuck, now),
        *_no_receivers(facts),
        *_subscribers(facts.subscribers["data"]),
        *_callbacks(facts.callbacks["data"]),
        *_dead(facts.dead, now),
    ]
    return sorted(findings, key=lambda finding: finding.level != PROBLEM)


def _ingress(events: Sequence[Json]) -> Iterator[Finding]:
    """Return whether the public URL is unreachable, by the newest event about it."""
    for event in events[:1]:
        if event["type"] == _UNREACHABLE:
            data = event["data"]
            values, times = {"url": data["url"]}, _times(since=data["since"])
            query = {"type": INGRESS_EVENTS}
            yield Finding("unreachable", PROBLEM, "/events", values, query, times, data["reason"])


def condition(account: Json, now: datetime) -> str:
    """Return whether jobs of an account are submitted: `held`, `paused` or `active`."""
    if account.get("held"):
        return "held"
    until = account["paused_until"]
    return "paused" if until and _at(until) > now else "active"


def refusal(account: Json) -> str:
    """Return why most refused pushes of an account were refused; empty if none is refused now.

    A push that is accepted later shows that the fault is corrected.
    """
    refused, accepted = account.get("pushes_refused"), account["last_push_at"]
    if not refused or not refused["last_at"]:
        return ""
    if accepted and _at(accepted) > _at(refused["last_at"]):
        return ""
    return max(_REFUSALS, key=lambda reason: int(refused[reason]))


def refused_count(account: Json) -> int:
    """Return how many pushes of an account were refused for their signature."""
    refused = account.get("pushes_refused") or {}
    return sum(refused.get(reason, 0) for reason in _REFUSALS)


def stopped(account: Json, now: datetime, events: Sequence[Json] = ()) -> Finding | None:
    """Return why no job of an account is submitted, if that is so.

    `events` of accounts, newest first, say since when it is paused.
    """
    values, path = {"account": account["name"]}, f"/accounts/{account['name']}"
    state = condition(account, now)
    if state == "held":
        hold = account["held"]
        key = f"held_{hold['reason']}" if hold["reason"] in _HOLDS else "held"
        times = _times(since=hold["since"])
        return Finding(key, PROBLEM, path, values, times=times, words=hold["message"])
    if state == "paused":
        pause = _newest(events, _PAUSED, account)["data"]
        times = _times(since=pause.get("since"), goes_on=account["paused_until"])
        words = pause.get("message") or ""
        return Finding("paused", WARNING, path, values, times=times, words=words)
    return None


def of_job(
    job: Json, entries: Sequence[Json], account: Json | None, now: datetime
) -> list[Finding]:
    """Return why a job goes no further; nothing of one that has ended.

    `entries` are of its timeline; `account` is that of a job in the queue.
    """
    if job["finished_at"]:
        return []
    lost = [one["at"] for one in entries if one.get("type") == _STUCK]
    path = f"/accounts/{job['account']}"
    unknown = [Finding("job_stuck", WARNING, path, times=_times(noticed=at)) for at in lost]
    stop = stopped(account, now) if account else None
    return [*([stop] if stop else []), *unknown[:1]]


def of_account(account: Json, now: datetime, events: Sequence[Json] = ()) -> Iterator[Finding]:
    """Yield what is wrong with one account. `events` of accounts are newest first."""
    values, path = {"account": account["name"]}, f"/accounts/{account['name']}"
    if stop := stopped(account, now, events):
        yield stop
    is_degraded, last_push = account["pushes_degraded"], account["last_push_at"]
    since = _newest(events, _DEGRADED, account)["timestamp"] if is_degraded else None
    if why := refusal(account):
        refused = values | {"count": refused_count(account), "secrets": account["signing_secrets"]}
        times = _times(since=since, refused=account["pushes_refused"]["last_at"])
        if why == "mismatched" and not refused["secrets"]:
            why = "unconfigured"
        yield Finding(f"refused_{why}", PROBLEM, path, refused, times=times)
    elif is_degraded:
        counts = {"missed": account["pushes_missed"], "pushes": account["pushes"]}
        times = _times(since=since, push=last_push)
        yield Finding("degraded", WARNING, path, values | counts, times=times)


def _newest(events: Sequence[Json], kind: str, account: Json) -> Json:
    """Return the newest event of a type about an account; one without facts if none is listed."""
    name = account["name"]
    mine = (one for one in events if one["type"] == kind and one["data"].get("name") == name)
    return next(mine, {"timestamp": None, "data": {}})


def _times(**instants: str | None) -> Times:
    """Return the instants that are known, with their names."""
    return tuple((name, at) for name, at in instants.items() if at)


def _no_accounts(accounts: Sequence[Json]) -> Iterator[Finding]:
    if not accounts:
        yield Finding("no_accounts", PROBLEM, "/accounts")


def _failures(failed: Json, now: datetime, held: set[str]) -> Iterator[Finding]:
    """Find accounts whose jobs fail for the account's sake; one that is held is named already."""
    errors = [
        (job["account"], job["error"]["code"])
        for job in failed["data"]
        if job["error"] and now - _at(job["finished_at"] or job["created_at"]) < _RECENT
    ]
    for (name, code), count in Counter(errors).items():
        if code in _OF_ACCOUNT and name not in held:
            values = {"account": name, "count": count}
            yield Finding(f"failed_{code}", PROBLEM, f"/accounts/{name}", values)


def _queue(queued: Json, now: datetime, waiting: set[str]) -> Iterator[Finding]:
    """Find accounts with jobs that are queued for long. The list is newest first.

    One that is held or paused is named already: its jobs have to wait. So has each until its start.
    """
    begun = [(job["account"], at) for job in queued["data"] if (at := waiting_since(job, now))]
    counts, oldest = Counter(name for name, _ in begun), dict[str, str]()
    for name, at in begun:
        oldest[name] = min(at, oldest.get(name, at))
    for name, at in oldest.items():
        if now - _at(at) > _PATIENCE and name not in waiting:
            values = {"account": name, "count": _some(counts[name], queued)}
            query = {"status": "queued", "account": name}
            yield Finding("queue", WARNING, "/jobs", values, query, _times(oldest=at))


def waiting_since(job: Json, now: datetime) -> str | None:
    """Return since when a queued job waits for a slot; None if it has not reached its start.

    Instants of the API are texts of one form, in the order of time.
    """
    since = str(job.get("start_after") or job["created_at"])
    return since if _at(since) <= now else None


def stuck(events: Json, now: datetime) -> Iterator[Finding]:
    """Find accounts whose vendors lost jobs, from events of the type `job.stuck`."""
    recent = [one for one in events["data"] if now - _at(one["timestamp"]) < _DAY]
    counts = Counter(str(one["data"].get("account")) for one in recent)
    newest = {str(one["data"].get("account")): one for one in reversed(recent)}
    for name, last in newest.items():
        values = {"account": name, "count": _some(counts[name], events)}
        times = _times(noticed=last["timestamp"])
        yield Finding("stuck", WARNING, f"/jobs/{last['job']}", values, times=times)


def _no_receivers(facts: Facts) -> Iterator[Finding]:
    if not facts.has_receivers:
        yield Finding("no_receivers", WARNING, "/subscribers")


def _subscribers(subscribers: Sequence[Json]) -> Iterator[Finding]:
    for row in subscribers:
        path = f"/subscribers/{row['id']}"
        values = {"where": f"{row['kind']} {row['url']}", "reason": row["disabled_reason"] or ""}
        if row["status"] == "disabled":
            yield Finding("subscriber_disabled", PROBLEM, path, values)
        elif row["failing_since"]:
            times = _times(since=row["failing_since"])
            yield Finding("subscriber_failing", PROBLEM, path, values, times=times)
        elif row["status"] == "paused":
            yield Finding("subscriber_paused", WARNING, path, values)


def _callbacks(hosts: Sequence[Json]) -> Iterator[Finding]:
    for row in hosts:
        health = row["callbacks"] or {}
        values = {
            "host": row["url"],
            "failing": health.get("failing", 0),
            "error": health.get("last_error") or "",
        }
        path = f"/subscribers/{row['id']}"
        times = _times(since=row["failing_since"])
        yield Finding("callbacks", PROBLEM, path, values, times=times)


def _dead(dead: Json, now: datetime) -> Iterator[Finding]:
    recent = [one for one in dead["data"] if now - _at(one["created_at"]) < _WEEK]
    counts = Counter(one["subscriber"] for one in recent)
    newest = {one["subscriber"]: one for one in reversed(recent)}
    for subscriber, last in newest.items():
        where = last.get("host") or subscriber
        values = {"where": where, "count": _some(counts[subscriber], dead)}
        query = {"status": "dead", "subscriber": subscriber}
        times = _times(newest=last["created_at"])
        yield Finding("dead", WARNING, "/deliveries", values, query, times)


def _some(count: int, listed: Json) -> str:
    """Return a count; `50+` where the list goes on."""
    return f"{count}+" if listed["has_more"] else str(count)


def _at(instant: str) -> datetime:
    return datetime.fromisoformat(instant)
