"""Checks of a running server: readiness, clock, version, subscribers, stuck jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import httpx

from orchestrator import __version__
from orchestrator.cli.accounts import every
from orchestrator.cli.client import Client
from orchestrator.cli.command import Session
from orchestrator.cli.doctor.exchange import Response, exchange
from orchestrator.cli.doctor.findings import Check, Finding, ok, problem, warning
from orchestrator.cli.doctor.server_accounts import accounts, queues
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.lookup import DELIVERY, EVENT, SUBSCRIBER
from orchestrator.cli.subscriber_record import callback_words
from orchestrator.cli.subscriber_test import first_attempt, outcome
from orchestrator.cli.terminal import counted, moment
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import EventType
from orchestrator.schemas import Delivery, Subscriber, TestEvent
from orchestrator.vendors.account_check import skew

_DEADLINE = 5.0
#: Differences between clocks (s) that are worth a warning, and a problem.
_NOTICED, _APART = 5, 30
#: Subscribers checked singly.
_MOST = 50
_TEST_DEADLINE = 18.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a server answers, and the findings about it.

    `lost` says how it lost the files of its database; empty if it did not. `settings_read_at` is
    when it read its settings, and `public_url` the one that it gives to vendors; None: unknown.
    """

    running: bool
    findings: list[Finding]
    lost: str = ""
    settings_read_at: datetime | None = None
    public_url: str | None = None


def readiness(server: str) -> Readiness:
    """Return whether a server is ready."""
    clock = SystemClock()
    at = clock.now()
    try:
        answer = exchange("GET", f"{server}/readyz", _DEADLINE)
    except ConfigError as error:
        return Readiness(
            False, [problem("environment", str(error), "correct it, then run it again")]
        )
    except (httpx.TransportError, httpx.InvalidURL) as error:
        words = f"no server answers at {server}: {error or type(error).__name__}"
        fix = "start it: orchestrator serve; --server names another"
        return Readiness(False, [problem("server", words, fix)])
    ahead = skew(answer.headers, at, answer.took)
    found = [_readiness(server, answer), *_clock(ahead)]
    return Readiness(True, found, _lost(answer), _read_at(answer), _public_url(server))


def _read_at(answer: Response) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(answer.document.get("settings_read_at")))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _public_url(server: str) -> str | None:
    """Return the URL in the server's own description of its API."""
    try:
        document = exchange("GET", f"{server}/openapi.json", _DEADLINE).document
    except (httpx.TransportError, httpx.InvalidURL, ConfigError):
        return None
    match document.get("servers"):
        case [{"url": str(url)}, *_] if url.startswith(("http://", "https://")):
            return url
        case _:
            return None


def _lost(answer: Response) -> str:
    details = [
        str(check.get("detail") or "")
        for check in answer.document.get("checks") or []
        if check.get("name") == "database"
    ]
    return "".join(details)


def _readiness(server: str, answer: Response) -> Finding:
    if answer.status == httpx.codes.OK:
        return ok("server", f"{server} is ready ({answer.took * 1000:.0f} ms)")
    if answer.status == httpx.codes.SERVICE_UNAVAILABLE:
        failing = [
            f"{check.get('name')}: {check.get('detail') or 'failing'}"
            for check in answer.document.get("checks") or []
            if check.get("status") != "ok"
        ]
        words = f"{server} is not ready: {', '.join(failing) or answer.text[:100]}"
        return problem("server", words, "see its log; is the disk full?")
    words = f"{server} answered /readyz with {answer.status}"
    fix = "is this orchestrator, or a proxy in front of it? --server names another"
    return problem("server", words, fix)


def _clock(ahead: float | None) -> Iterator[Finding]:
    if ahead is None:
        return
    where = "ahead of" if ahead > 0 else "behind"
    words, fix = f"the server's is {abs(ahead):g} s {where} this machine's", "set both by NTP"
    if abs(ahead) >= _APART:
        yield problem("server clock", words, fix)
    elif abs(ahead) >= _NOTICED:
        yield warning("server clock", words, fix)
    else:
        yield ok("server clock", "it agrees with this machine's")


def checks(session: Session, server: str, *, send_test: bool) -> list[Check]:
    """Return the checks of a server that answers; without a valid key, only why it is refused."""
    version = ("version", partial(_version, server))
    try:
        with session.client() as client:
            every(client)
    except Failure as failure:
        refused, hint = failure.message, failure.hint.partition(";")[0]
        code = "is refused" if failure.code is Exit.AUTH else "cannot be tried"
        return [
            version,
            (
                "key",
                lambda: [problem("key", f"the API key of this command {code}: {refused}", hint)],
            ),
        ]
    return [
        version,
        ("accounts", partial(accounts, session)),
        ("queues", partial(queues, session)),
        ("subscribers", partial(_subscribers, session, send_test)),
        ("callback receivers", partial(_callbacks, session)),
        ("stuck jobs", partial(_stuck, session)),
    ]


def _version(server: str) -> Iterator[Finding]:
    info = exchange("GET", f"{server}/openapi.json", _DEADLINE).document.get("info")
    found = info.get("version") if isinstance(info, dict) else None
    if not isinstance(found, str):
        yield warning("version", "the server does not report one", "is this orchestrator?")
    elif found == __version__:
        yield ok("version", f"{found}, of the server and of this command")
    else:
        words = f"the server has {found[:40]}, this command {__version__}"
        yield warning("version", words, "upgrade the older one")


def _subscribers(session: Session, send_test: bool) -> Iterator[Finding]:
    with session.client() as client:
        page = client.get(SUBSCRIBER.page, SUBSCRIBER.path, limit=_MOST)
        if not page.data:
            fix = "orchestrator subscribers add https://..."
            yield warning(
                "subscribers", "there are none: events go only to the callback URLs of jobs", fix
            )
        for subscriber in page.data:
            yield from _subscriber(client, subscriber, send_test)
        if page.has_more:
            yield ok("subscribers", f"only the newest {_MOST} were checked")


def _callbacks(session: Session) -> Iterator[Finding]:
    """Check the receivers of jobs' callback URLs."""
    with session.client() as client:
        filters = {"callbacks": True, "failing": True}
        page = client.get(SUBSCRIBER.page, SUBSCRIBER.path, **filters, limit=_MOST)
    for host in page.data:
        if host.callbacks is None or host.failing_since is None:
            continue
        words = f"failing since {moment(host.failing_since)}: {callback_words(host.callbacks)}"
        fix = f"orchestrator deliveries ls --subscriber {host.id}; jobs name it as callback_url"
        yield problem(f"callbacks to {host.url}", words, fix)
    if page.has_more:
        yield ok("callback receivers", f"only {_MOST} hosts were checked")


def _stuck(session: Session) -> Iterator[Finding]:
    """Check for jobs of the last day that their vendors did not know, the newest per account."""
    oldest = earliest("evt", session.now() - timedelta(days=1))
    with session.client() as client:
        kind = EventType.JOB_STUCK.value
        page = client.full_page(EVENT.page, EVENT.path, type=kind, limit=_MOST, oldest=oldest)
    counts = Counter(str(event.data.get("account")) for event in page.data)
    newest = {str(event.data.get("account")): event for event in reversed(page.data)}
    for name, count in counts.items():
        last = newest[name]
        words = (
            f"its vendor did not know {counted(count, 'job')} that it had accepted,"
            f" the last at {moment(last.timestamp)}"
        )
        fix = (
            f"orchestrator jobs show {last.job_id} --timeline;"
            " did its base_url or key change since it was submitted?"
        )
        yield warning(f"jobs of {name}", words, fix)


def _subscriber(client: Client, sub: Subscriber, send_test: bool) -> Iterator[Finding]:
    name, resume = f"subscriber {sub.id}", f"orchestrator subscribers resume {sub.id}"
    where = f"{sub.kind} {sub.url}"
    if sub.status == "disabled":
        words = f"{where} is disabled: {sub.disabled_reason}"
        yield problem(name, words, f"repair it, then: {resume}")
    elif sub.status == "paused":
        yield warning(name, f"{where} is paused; its deliveries wait", resume)
    elif send_test:
        yield _test(client, sub, name, where)
    else:
        yield _last(client, sub, name, where)
    dead = _newest(client, sub, status="dead")
    if dead:
        words = f"{where} never got some deliveries, the last of {moment(dead.created_at)}"
        yield warning(name, words, f"orchestrator subscribers replay {sub.id} --since 7d")


def _newest(client: Client, sub: Subscriber, **filters: object) -> Delivery | None:
    page = client.get(DELIVERY.page, DELIVERY.path, subscriber=sub.id, **filters, limit=1)
    return page.data[0] if page.data else None


def _last(client: Client, sub: Subscriber, name: str, where: str) -> Finding:
    last, fix = _newest(client, sub), f"orchestrator subscribers test {sub.id}"
    if sub.failing_since:
        why = f", last: {outcome(last)}" if last else ""
        words = f"{where} has been failing since {moment(sub.failing_since)}{why}"
        return problem(name, words, fix)
    if last and last.status == "pending" and last.last_error:
        return warning(name, f"{where} did not accept the last delivery: {outcome(last)}", fix)
    return ok(name, f"{where}, " + (f"last: {outcome(last)}" if last else "no delivery yet"))


def _test(client: Client, sub: Subscriber, name: str, where: str) -> Finding:
    sent = client.post(TestEvent, f"{SUBSCRIBER.path}/{sub.id}/test")
    delivery = first_attempt(client, sent.id, _TEST_DEADLINE)
    words = f"{where}, a test: {outcome(delivery)}"
    if delivery.status == "delivered":
        return ok(name, words)
    return problem(name, words, f"orchestrator deliveries show {delivery.id}")
