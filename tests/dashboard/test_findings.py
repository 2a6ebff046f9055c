"""What the overview finds wrong, from documents of the API alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.dashboard.findings import Facts, Finding, found
from orchestrator.dashboard.translations import LANGUAGES, catalogue
from orchestrator.foundation.clock import rfc3339

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
Json = dict[str, Any]


def ago(**span: float) -> str:
    """Return an instant of the API that is so long before now."""
    return rfc3339(NOW - timedelta(**span))


def account(**values: Any) -> Json:
    """Return an account that nothing is wrong with, but for some values."""
    refused = {"unsigned": 0, "stale": 0, "mismatched": 0, "last_at": None}
    return {"name": "main", "pushes": 7, "pushes_missed": 0, "pushes_degraded": False,
            "pushes_refused": refused, "signing_secrets": 1, "last_push_at": None,
            "paused_until": None, **values}  # fmt: skip


def job(**values: Any) -> Json:
    """Return a job of the account main."""
    return {"id": "job_1", "account": "main", "error": None, "created_at": ago(minutes=1),
            "finished_at": None, **values}  # fmt: skip


def subscriber(**values: Any) -> Json:
    """Return a subscriber that nothing is wrong with, but for some values."""
    return {"id": "sub_1", "kind": "webhook", "url": "https://a.example/h", "status": "active",
            "disabled_reason": None, "failing_since": None, "callbacks": None,
            **values}  # fmt: skip


def facts(lists: Mapping[str, list[Json]], *, has_more: bool = False) -> Facts:
    """Return facts with an account that nothing is wrong with, but for some lists."""
    names = (
        "accounts", "failed", "queued", "stuck", "subscribers", "callbacks", "dead",
        "account_events", "ingress",
    )  # fmt: skip
    given = {"accounts": [account()], **lists}
    read: dict[str, Any] = {
        name: {"data": given.get(name, []), "has_more": has_more} for name in names
    }
    return Facts(**read)


def refused(**values: Any) -> Json:
    """Return an account whose pushes are refused."""
    counts = {"unsigned": 0, "stale": 0, "mismatched": 0, "last_at": ago(minutes=5)}
    return account(pushes_refused=counts | values)


def failed(code: str, **values: Any) -> Json:
    """Return a job that failed a minute ago."""
    return job(error={"code": code}, finished_at=ago(minutes=1), **values)


HELD = {"reason": "unauthorized", "since": ago(hours=1), "message": "401", "next_check_at": None}
DEAD = {"subscriber": "sub_1", "host": "a.example", "created_at": ago(hours=2)}
STUCK = {"job": "job_9", "timestamp": ago(hours=1), "data": {"account": "main"}}
UNREACHABLE = {
    "type": "ingress.unreachable",
    "data": {"url": "https://o.example", "since": ago(hours=1), "reason": "timeout"},
}
DOWN = {"failing": 2, "failures": 40, "last_error": "connection refused"}


@pytest.mark.parametrize(
    ("lists", "key", "path"),
    [
        ({"accounts": []}, "no_accounts", "/accounts"),
        ({"accounts": [account(held=HELD)]}, "held_unauthorized", "/accounts/main"),
        ({"accounts": [account(held=HELD | {"reason": "new"})]}, "held", "/accounts/main"),
        ({"accounts": [account(paused_until=ago(minutes=-2))]}, "paused", "/accounts/main"),
        ({"accounts": [refused(mismatched=12)]}, "refused_mismatched", "/accounts/main"),
        ({"accounts": [refused(mismatched=2) | {"signing_secrets": 0}]},
         "refused_unconfigured", "/accounts/main"),
        ({"accounts": [refused(unsigned=3, stale=1)]}, "refused_unsigned", "/accounts/main"),
        ({"accounts": [account(pushes_degraded=True)]}, "degraded", "/accounts/main"),
        ({"failed": [failed("vendor_auth")]}, "failed_vendor_auth", "/accounts/main"),
        ({"failed": [failed("account_exhausted")]}, "failed_account_exhausted", "/accounts/main"),
        ({"accounts": [account(pushes_degraded=True, pushes_refused=None)]},
         "degraded", "/accounts/main"),
        ({"queued": [job(), job(created_at=ago(hours=1))]}, "queue", "/jobs"),
        ({"queued": [job(created_at=ago(days=9), start_after=ago(hours=1))]}, "queue", "/jobs"),
        ({"stuck": [STUCK, STUCK]}, "stuck", "/jobs/job_9"),
        ({"subscribers": [subscriber(status="disabled", disabled_reason="410")]},
         "subscriber_disabled", "/subscribers/sub_1"),
        ({"subscribers": [subscriber(status="paused")]}, "subscriber_paused", "/subscribers/sub_1"),
        ({"subscribers": [subscriber(failing_since=ago(hours=1))]},
         "subscriber_failing", "/subscribers/sub_1"),
        ({"callbacks": [subscriber(failing_since=ago(hours=1), callbacks=DOWN)]},
         "callbacks", "/subscribers/sub_1"),
        ({"dead": [DEAD]}, "dead", "/deliveries"),
        ({"ingress": [UNREACHABLE]}, "unreachable", "/events"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_and_the_page_to_correct_it(
    lists: dict[str, list[Json]], key: str, path: str
) -> None:
    (finding,) = found(facts(lists), NOW)
    assert (finding.key, finding.path) == (key, path)
    for language in LANGUAGES:
        texts = catalogue(language)
        assert "{" not in texts.text(f"finding.{key}", **finding.values)
        assert texts.text(f"finding.{key}.fix", public_url="https://o.example", **finding.values)
        assert all(texts.has(f"moment.{name}") for name, _ in finding.times)


@pytest.mark.parametrize(
    "lists",
    [
        {},
        {"accounts": [account(paused_until=ago(minutes=2))]},
        {"accounts": [refused(mismatched=12) | {"last_push_at": ago(minutes=1)}]},
        {"failed": [failed("vendor_auth") | {"finished_at": ago(hours=3)}]},
        {"failed": [failed("vendor_failed"), job(error=None)]},
        {"queued": [job(created_at=ago(minutes=9))]},
        {"queued": [job(created_at=ago(hours=9), start_after=ago(minutes=-1))]},
        {"queued": [job(created_at=ago(hours=9), start_after=ago(minutes=1))]},
        {"stuck": [STUCK | {"timestamp": ago(days=2)}]},
        {"subscribers": [subscriber()]},
        {"dead": [DEAD | {"created_at": ago(days=9)}]},
        {"ingress": [UNREACHABLE | {"type": "ingress.recovered"}, UNREACHABLE]},
    ],
)
def test_what_is_over_or_ordinary_is_not_wrong(lists: dict[str, list[Json]]) -> None:
    assert found(facts(lists), NOW) == []


def test_without_a_receiver_no_event_is_delivered() -> None:
    (finding,) = found(replace(facts({}), has_receivers=False), NOW)
    assert (finding.key, finding.path) == ("no_receivers", "/subscribers")


def test_an_account_that_is_held_has_one_sentence() -> None:
    lists = {"accounts": [account(held=HELD)], "failed": [failed("vendor_auth")],
             "queued": [job(created_at=ago(hours=1))]}  # fmt: skip
    findings = found(facts(lists), NOW)
    assert [one.key for one in findings] == ["held_unauthorized"]


def test_problems_come_first_and_counts_say_where_they_end() -> None:
    lists = {"dead": [DEAD, DEAD], "failed": [failed("vendor_auth")]}
    first, second = found(facts(lists, has_more=True), NOW)
    assert first.level == "problem"
    query = {"status": "dead", "subscriber": "sub_1"}
    values = {"where": "a.example", "count": "2+"}
    assert second == Finding(
        "dead", "warning", "/deliveries", values, query, (("newest", DEAD["created_at"]),)
    )


def test_each_time_says_what_it_is_and_the_beginning_is_the_first() -> None:
    events = [
        {"type": "account.paused", "timestamp": ago(hours=1),
         "data": {"name": "other", "since": ago(hours=1), "message": "not this one"}},
        {"type": "account.push_degraded", "timestamp": ago(hours=2), "data": {"name": "main"}},
        {"type": "account.paused", "timestamp": ago(hours=3),
         "data": {"name": "main", "since": ago(hours=3), "message": "too many requests"}},
    ]  # fmt: skip
    soon, push, refusal = ago(minutes=-2), ago(hours=4), ago(minutes=5)
    cases: list[tuple[Json, list[tuple[str, str]], str]] = [
        (account(paused_until=soon), [("since", ago(hours=3)), ("goes_on", soon)],
         "too many requests"),
        (account(held=HELD), [("since", str(HELD["since"]))], "401"),
        (account(pushes_degraded=True, last_push_at=push),
         [("since", ago(hours=2)), ("push", push)], ""),
        (refused(mismatched=1) | {"pushes_degraded": True},
         [("since", ago(hours=2)), ("refused", refusal)], ""),
        (refused(mismatched=1), [("refused", refusal)], ""),
        (account(name="quiet", paused_until=soon), [("goes_on", soon)], ""),
    ]  # fmt: skip
    for row, times, words in cases:
        (finding,) = found(facts({"accounts": [row], "account_events": events}), NOW)
        assert (list(finding.times), finding.words) == (times, words)
