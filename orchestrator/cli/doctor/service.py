"""What the server says of itself, its accounts and its subscribers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import httpx

from orchestrator import __version__
from orchestrator.cli.accounts import asked
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.doctor.exchange import Answer, exchange
from orchestrator.cli.doctor.findings import Check, Finding, ok, problem, warning
from orchestrator.cli.doctor.local import account, clock_of
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.subscriber_test import outcome, tried
from orchestrator.cli.terminal import Record, moment
from orchestrator.foundation.clock import SystemClock
from orchestrator.vendors.account_check import skew

_DEADLINE = 5.0
#: Seconds that clocks may be apart, unnoticed and at all.
_NOTICED, _APART = 5, 30
#: Subscribers that are looked at one by one.
_MOST = 50
_TRIAL = 18.0


@dataclass(frozen=True, slots=True)
class Met:
    """Whether somebody answers who could be our server, and what that showed."""

    running: bool
    findings: list[Finding]


def met(server: str, named: bool) -> Met:
    """Ask a server whether it is ready. One that was `named` ought to be there."""
    clock = SystemClock()
    at = clock.now()
    try:
        answer = exchange("GET", f"{server}/readyz", _DEADLINE)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        words, fix = (
            f"none at {server}: {error or type(error).__name__}",
            "start it: orchestrator serve",
        )
        if named:
            return Met(False, [problem("server", words, f"{fix}; --server names another")])
        return Met(
            False, [warning("server", words, f"{fix}; --server names one that is elsewhere")]
        )
    return Met(True, [_readiness(server, answer), *_clock(skew(answer.headers, at, answer.took))])


def _readiness(server: str, answer: Answer) -> Finding:
    if answer.status == httpx.codes.OK:
        return ok("server", f"{server} is ready ({answer.took * 1000:.0f} ms)")
    if answer.status == httpx.codes.SERVICE_UNAVAILABLE:
        failing = ", ".join(_failing(answer)) or answer.text[:100]
        return problem(
            "server", f"{server} is not ready: {failing}", "its log says why; is the disk full?"
        )
    words = f"{server} answered /readyz with {answer.status}"
    return problem(
        "server", words, "is this orchestrator, or a proxy in front of it? --server names another"
    )


def _failing(answer: Answer) -> Iterator[str]:
    for check in answer.document.get("checks") or []:
        if check.get("status") != "ok":
            yield f"{check.get('name')} {check.get('status')}"


def _clock(ahead: float | None) -> Iterator[Finding]:
    if ahead is None:
        return
    words = (
        f"the server's is {abs(ahead):g} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    )
    fix = "set both clocks by NTP"
    if abs(ahead) >= _APART:
        yield problem("server clock", words, fix)
    elif abs(ahead) >= _NOTICED:
        yield warning("server clock", words, fix)
    else:
        yield ok("server clock", "as this machine's")


def checks(session: Session, server: str, *, send_test: bool) -> list[Check]:
    """Return the checks of a server that answers. Without a good key, only that is told."""
    version = ("version", partial(_version, server))
    try:
        with session.client() as client:
            client.get("/v1/accounts", limit=1)
    except Failure as failure:
        refused, hint = failure.message, failure.hint.partition(";")[0]
        code = "is refused" if failure.code is Exit.AUTH else "cannot be tried"
        return [version, ("key", lambda: [problem("key", f"our key {code}: {refused}", hint)])]
    return [
        version,
        ("accounts", partial(_accounts, session)),
        ("subscribers", partial(_subscribers, session, send_test)),
    ]


def _version(server: str) -> Iterator[Finding]:
    info = exchange("GET", f"{server}/openapi.json", _DEADLINE).document.get("info")
    found = info.get("version") if isinstance(info, dict) else None
    if not isinstance(found, str):
        yield warning("version", "the server does not tell its own", "is this orchestrator?")
    elif found == __version__:
        yield ok("version", f"{found}, there and here")
    else:
        yield warning("version", f"{found[:40]} there, {__version__} here", "upgrade the older one")


def _accounts(session: Session) -> Iterator[Finding]:
    with session.client() as client:
        known: list[Record] = client.get("/v1/accounts", limit=200)["data"]
        try:
            found = asked(client, [one["name"] for one in known])
        except Failure as failure:
            if failure.code is not Exit.AUTH:
                raise
            yield warning(
                "accounts", "not asked: this key may only read", "give one with the scope write"
            )
            found = []
    if not known:
        yield warning(
            "accounts",
            "the server has none, so it takes no job",
            "add [accounts.main] to its settings",
        )
    for check in found:
        yield account(check)
        yield from clock_of(check)
    for one in known:
        if one["pushes_degraded"]:
            last = moment(one["last_push_at"])
            words = f"going missing: {one['pushes_missed']} missed, {one['pushes']} came, the last {last}"
            yield warning(
                f"pushes of {one['name']}",
                words,
                "jobs end by polling meanwhile; is public_url right?",
            )


def _subscribers(session: Session, send_test: bool) -> Iterator[Finding]:
    with session.client() as client:
        page = client.get("/v1/subscribers", limit=_MOST)
        if not page["data"]:
            yield warning(
                "subscribers",
                "there are none: nobody is told",
                "orchestrator subscribers add https://...",
            )
        for one in page["data"]:
            yield from _subscriber(client, one, send_test)
        if page["has_more"]:
            yield ok("subscribers", f"only the newest {_MOST} were looked at")


def _subscriber(client: Client, one: Record, send_test: bool) -> Iterator[Finding]:
    name, resume = f"subscriber {one['id']}", f"orchestrator subscribers resume {one['id']}"
    where = f"{one['kind']} {one['url']}"
    if one["status"] == "disabled":
        yield problem(
            name, f"{where} is disabled: {one['disabled_reason']}", f"mend it, then: {resume}"
        )
    elif one["status"] == "paused":
        yield warning(name, f"{where} is paused; its deliveries wait", resume)
    elif send_test:
        yield _trial(client, one, name, where)
    else:
        yield _last(client, one, name, where)
    dead = client.get("/v1/deliveries", subscriber=one["id"], status="dead", limit=1)["data"]
    if dead:
        fix = f"orchestrator subscribers replay {one['id']} --since 7d"
        yield warning(
            name,
            f"{where} never got some deliveries, the last of {moment(dead[0]['created_at'])}",
            fix,
        )


def _last(client: Client, one: Record, name: str, where: str) -> Finding:
    last = client.get("/v1/deliveries", subscriber=one["id"], limit=1)["data"]
    if one["failing_since"]:
        words = f"{where} has been failing since {moment(one['failing_since'])}"
        why = f", last: {outcome(last[0])}" if last else ""
        return problem(name, words + why, f"orchestrator subscribers test {one['id']}")
    if last and last[0]["status"] == "pending" and last[0]["last_error"]:
        words = f"{where} did not take the last delivery: {outcome(last[0])}"
        return warning(name, words, f"orchestrator subscribers test {one['id']}")
    return ok(
        name, f"{where}, last: {outcome(last[0])}" if last else f"{where} was sent nothing yet"
    )


def _trial(client: Client, one: Record, name: str, where: str) -> Finding:
    sent: Record = client.call("POST", f"/v1/subscribers/{one['id']}/test").document
    delivery = tried(client, sent["id"], _TRIAL)
    words = f"{where}, a test: {outcome(delivery)}"
    if delivery["status"] == "delivered":
        return ok(name, words)
    return problem(name, words, f"orchestrator deliveries show {delivery['id']}")
