"""Commands for operators: subscribers, deliveries, replays, accounts and keys."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import replays, subscriber_test
from tests.harness.api_caller import KEY, Json
from tests.harness.command_line import (
    AT,
    DELIVERY,
    EVENT,
    JOB,
    KEY_ID,
    REPLAY,
    SECRET,
    SUBSCRIBER,
    Fake,
    Ran,
    account,
    account_check,
    api_key,
    delivery,
    event,
    page,
    replay,
    replay_count,
    run,
    subscriber,
)
from tests.harness.live import live

SUB, DLV, EVT, RPL = SUBSCRIBER, DELIVERY, EVENT, REPLAY
OTHER = SUB[:-1] + "p"


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that wait look often."""
    monkeypatch.setattr(replays, "_LOOKS", 0.01)
    monkeypatch.setattr(subscriber_test, "_LOOKS", 0.01)


def ran(fake: Fake, *words: str, stdin: str | None = None) -> Ran:
    return run("--server", fake.url, *words, stdin=stdin)


def bodies(fake: Fake, call: str) -> list[Any]:
    """Return the bodies of all calls of one method and path."""
    return [body for asked, _, body in fake.asked if asked == call]


# -- subscribers


def test_adding_a_subscriber_sends_every_option_and_shows_its_secret(fake: Fake) -> None:
    fake.script("POST /v1/subscribers", (201, subscriber(secret=SECRET)))
    words = ["--header", "X-Token: a:b", "--header", "X-Other:c", "--option", "format=cloudevents"]
    done = ran(
        fake, "subscribers", "add", "https://my.app/hook", *words, "--types", "job.*, account.*"
    )
    assert done.code == 0
    assert SECRET in done.out
    assert "not shown again" in done.err
    assert bodies(fake, "POST /v1/subscribers") == [
        {
            "url": "https://my.app/hook",
            "types": ["job.*", "account.*"],
            "headers": {"X-Token": "a:b", "X-Other": "c"},
            "options": {"format": "cloudevents"},
        }
    ]


@pytest.mark.parametrize(
    ("words", "kind", "url"),
    [
        (["slack:https://hooks.slack.com/x"], "slack", "https://hooks.slack.com/x"),
        (["https://hooks.slack.com/x", "--kind", "slack"], "slack", "https://hooks.slack.com/x"),
        (["https://my.app/a:https://b"], None, "https://my.app/a:https://b"),
    ],
)
def test_a_prefix_of_the_url_sets_the_kind(
    fake: Fake, words: list[str], kind: str | None, url: str
) -> None:
    fake.script("POST /v1/subscribers", (201, subscriber()))
    assert ran(fake, "subscribers", "add", *words).code == 0
    (body,) = bodies(fake, "POST /v1/subscribers")
    assert (body.get("kind"), body["url"]) == (kind, url)


@pytest.mark.parametrize(
    "words", [["--header", "nothing"], ["--option", "=x"], ["--header", ": x"]]
)
def test_a_malformed_pair_is_refused_without_a_request(fake: Fake, words: list[str]) -> None:
    assert ran(fake, "subscribers", "add", "https://my.app", *words).code == 2
    assert not fake.asked


def test_a_subscriber_is_found_by_the_beginning_of_its_id(fake: Fake) -> None:
    fake.script("GET /v1/subscribers", (200, page(subscriber())))
    fake.script("GET /v1/deliveries", (200, page(delivery())))
    done = ran(fake, "subscribers", "show", "01m7xg")
    assert done.code == 0
    assert SUB in done.out
    assert "delivered: answered 200" in done.out
    fake.script("GET /v1/subscribers", (200, page(subscriber(id=OTHER), subscriber())))
    several = ran(fake, "subscribers", "show", "sub_01m7xg")
    assert several.code == 2
    assert OTHER in several.err


def test_an_update_sends_only_the_given_fields(fake: Fake) -> None:
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    fake.script(f"PATCH /v1/subscribers/{SUB}", (200, subscriber(description="new")))
    done = ran(
        fake, "subscribers", "update", SUB, "--description", "new", "--rate-limit", "none", "--json"
    )
    assert json.loads(done.out)["description"] == "new"
    assert bodies(fake, f"PATCH /v1/subscribers/{SUB}") == [
        {"description": "new", "rate_limit": None}
    ]
    assert ran(fake, "subscribers", "update", SUB, "--rate-limit", "fast").code == 2
    assert ran(fake, "subscribers", "update", SUB).code == 2


def test_options_of_a_retry_policy_change_one_field_each(fake: Fake) -> None:
    own = {"schedule": ["5s", "1m"], "deadline": 10.0, "final_statuses": [400, 404]}
    words = ["--retry-schedule", "5s,1m", "--retry-deadline", "10", "--retry-final", "400,404"]
    fake.script("POST /v1/subscribers", (201, subscriber(retry=own)))
    ran(fake, "subscribers", "add", "https://my.app/hook", *words)
    assert bodies(fake, "POST /v1/subscribers") == [{"url": "https://my.app/hook", "retry": own}]
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber(retry=own)))
    fake.script(f"PATCH /v1/subscribers/{SUB}", (200, subscriber(retry=own)))
    without = {name: own[name] for name in ("schedule", "deadline")}
    for given, sent in (
        (["--retry-deadline", "30"], own | {"deadline": 30.0}),
        (["--retry-final", "none"], without),
        (["--retry-schedule", "none", "--retry-deadline", "none", "--retry-final", "none"], None),
    ):
        assert ran(fake, "subscribers", "update", SUB, *given).code == 0
        assert bodies(fake, f"PATCH /v1/subscribers/{SUB}")[-1] == {"retry": sent}
    for option in ("--retry-deadline", "--retry-final"):
        assert ran(fake, "subscribers", "update", SUB, option, "soon").code == 2


def test_the_retry_policy_in_force_is_shown_and_whose_it_is(fake: Fake) -> None:
    fake.script("GET /v1/deliveries", (200, page()))
    policy = {"schedule": [5.0, 90.0], "deadline": 15.0, "final_statuses": [400, 404]}
    own = {"schedule": ["5s", "90s"], "deadline": None, "final_statuses": [400, 404]}
    shown = subscriber(retry=own, retry_in_force=policy)
    fake.script(f"GET /v1/subscribers/{SUB}", (200, shown))
    done = ran(fake, "subscribers", "show", SUB)
    assert "retried after  5.0 s, 1 min 30 s (its own)" in done.out
    assert "attempt        up to 15 s (the default)" in done.out
    assert "dead at        400, 404 (its own)" in done.out
    cleared = subscriber(retry=None, retry_in_force=policy | {"final_statuses": []})
    fake.script(f"PATCH /v1/subscribers/{SUB}", (200, cleared))
    done = ran(fake, "subscribers", "update", SUB, "--retry-final", "none")
    assert "dead at        no status (the default)" in done.out


def test_a_filter_is_json_or_a_file_and_none_clears_it(fake: Fake, tmp_path: Path) -> None:
    wanted = {"data": {"account": "main"}}
    file = tmp_path / "filter.json"
    file.write_text(json.dumps(wanted))
    fake.script("POST /v1/subscribers", (201, subscriber(filter=wanted, ordered=True)))
    for given in (json.dumps(wanted), f"@{file}"):
        words = ["--filter", given, "--ordered"]
        done = ran(fake, "subscribers", "add", "https://my.app/hook", *words)
        assert json.dumps(wanted) in done.out
    expected = {"url": "https://my.app/hook", "filter": wanted, "ordered": True}
    assert bodies(fake, "POST /v1/subscribers") == [expected] * 2
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    fake.script(f"PATCH /v1/subscribers/{SUB}", (200, subscriber()))
    assert ran(fake, "subscribers", "update", SUB, "--filter", "none", "--no-ordered").code == 0
    assert bodies(fake, f"PATCH /v1/subscribers/{SUB}") == [{"ordered": False, "filter": None}]
    for bad in ("{", "[1]", "@/nowhere", '"x"', "[" * 100_000):
        assert ran(fake, "subscribers", "update", SUB, "--filter", bad).code == 2


def test_an_explanation_says_whether_and_why(fake: Fake) -> None:
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    fake.script(f"GET /v1/events/{EVT}", (200, event()))
    answer = {"object": "explanation", "matches": False, "reason": "Why.", "pointer": "/data/a"}
    fake.script(f"POST /v1/subscribers/{SUB}/explain", (200, answer))
    done = ran(fake, "subscribers", "explain", SUB, EVT)
    assert done.code == 0
    assert all(text in done.out for text in ("no", "Why.", "/data/a"))
    assert ran(fake, "subscribers", "explain", SUB, "--body", '{"type": "x"}').code == 0
    assert bodies(fake, f"POST /v1/subscribers/{SUB}/explain") == [
        {"event": EVT},
        {"body": {"type": "x"}},
    ]
    assert ran(fake, "subscribers", "explain", SUB).code == 2


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_subscriber_is_paused_and_resumed(fake: Fake, verb: str) -> None:
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    fake.script(f"POST /v1/subscribers/{SUB}/{verb}", (200, subscriber(status="paused")))
    done = ran(fake, "subscribers", verb, SUB, "-q")
    assert (done.code, done.out) == (0, f"{SUB}\n")


def test_nothing_is_deleted_without_a_terminal_to_confirm_on(fake: Fake) -> None:
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    fake.script(f"DELETE /v1/subscribers/{SUB}", (204, None))
    refused = ran(fake, "subscribers", "rm", SUB)
    assert refused.code == 2
    assert "https://my.app/hook" in refused.err
    assert not [call for call, _, _ in fake.asked if call.startswith("DELETE")]
    assert ran(fake, "subscribers", "rm", SUB, "--yes").code == 0
    assert fake.asked[-1][0] == f"DELETE /v1/subscribers/{SUB}"


def test_quiet_prints_what_is_shown_once_below_the_id(fake: Fake) -> None:
    fake.script(
        "POST /v1/subscribers", (201, subscriber(secret=SECRET)), (201, subscriber(secret=None))
    )
    signed = ran(fake, "subscribers", "add", "https://my.app/hook", "-q")
    assert signed.out.splitlines() == [SUB, SECRET]
    assert ran(fake, "subscribers", "add", "https://my.app/hook", "-q").out == f"{SUB}\n"


def test_an_account_whose_vendor_pushes_nothing_does_not_wait_for_pushes(fake: Fake) -> None:
    silent = account("quiet", lookup="none", expects_pushes=False)
    fake.script("GET /v1/accounts/quiet", (200, silent))
    fake.script("GET /v1/accounts", (200, page(silent)))
    shown = ran(fake, "accounts", "show", "quiet").out
    assert "this vendor pushes nothing" in shown
    assert "on_lost_submit decides" in shown
    assert "only a push" not in shown
    assert re.search("^quiet +kling +0 +- +- ", ran(fake, "accounts", "ls").out, re.MULTILINE)


def test_a_rotated_secret_is_the_only_output(fake: Fake) -> None:
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    rotated = subscriber(secret=SECRET, previous_expires_at=AT)
    fake.script(f"POST /v1/subscribers/{SUB}/rotate-secret", (200, rotated))
    done = ran(fake, "subscribers", "rotate-secret", SUB, "--grace", "2h")
    assert (done.code, done.out) == (0, f"{SECRET}\n")
    assert "2026-11-20 10:00:00" in done.err
    assert bodies(fake, f"POST /v1/subscribers/{SUB}/rotate-secret") == [{"grace_seconds": 7200}]


TEST = {
    "object": "event",
    "id": EVT,
    "type": "subscriber.test",
    "links": {"deliveries": "/v1/deliveries"},
}


def scripted_test(fake: Fake, *seen: Json) -> None:
    """Script a subscriber's test, and its delivery as each read returns it."""
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    fake.script(f"POST /v1/subscribers/{SUB}/test", (202, TEST))
    fake.script("GET /v1/deliveries", *((200, page(row)) for row in seen))
    fake.script(f"GET /v1/deliveries/{DLV}", (200, seen[-1]))


def test_a_test_waits_for_the_subscribers_answer(fake: Fake) -> None:
    scripted_test(fake, delivery("pending", tries=0, last_status=None), delivery())
    done = ran(fake, "subscribers", "test", SUB)
    assert done.code == 0
    assert "delivered: answered 200 in 35 ms" in done.out
    assert "event=" + EVT in fake.asked[-2][0]


def test_a_refused_test_exits_1_with_the_answer(fake: Fake) -> None:
    attempt = {
        "n": 1,
        "at": AT,
        "status": 500,
        "ms": 7,
        "error": "server_error",
        "response": "no \x1b[31mroom",
    }
    scripted_test(
        fake, delivery("pending", last_status=500, last_error="server_error", attempts=[attempt])
    )
    done = ran(fake, "subscribers", "test", SUB)
    assert done.code == 1
    assert "answered 500, server_error in 7 ms: no" in done.out
    assert "\x1b" not in done.out
    scripted_test(fake, delivery("held", tries=0, last_status=None, attempts=[]))
    held = ran(fake, "subscribers", "test", SUB)
    assert "paused or disabled" in held.out
    assert f"subscribers resume {SUB}" in held.err


def test_a_test_can_be_left_alone_and_is_awaited_with_a_deadline(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_test(fake, delivery("pending", tries=0))
    done = ran(fake, "subscribers", "test", SUB, "--no-wait", "--json")
    assert json.loads(done.out)["id"] == EVT
    assert not any("/v1/deliveries" in call for call, _, _ in fake.asked)
    monkeypatch.setattr(subscriber_test.first_attempt, "__defaults__", (0.05,))
    assert ran(fake, "subscribers", "test", SUB).code == 7


# -- deliveries and replays


def test_a_delivery_is_shown_with_every_attempt(fake: Fake) -> None:
    fake.script("GET /v1/deliveries", (200, page(delivery())))
    fake.script(f"GET /v1/deliveries/{DLV}", (200, delivery(job=JOB)))
    done = ran(fake, "deliveries", "show", "dlv_01m7")
    assert done.code == 0
    assert JOB in done.out
    assert "thanks" in done.out
    assert (
        json.loads(ran(fake, "deliveries", "show", "dlv_01m7", "--json").out)["attempts"][0]["ms"]
        == 35
    )


@pytest.mark.parametrize("state", ["dead", "pending"])
def test_a_delivery_that_a_final_status_ended_says_so(fake: Fake, state: str) -> None:
    shown = delivery(state, last_status=404, last_error="final_status_404")
    fake.script("GET /v1/deliveries", (200, page(shown)))
    fake.script(f"GET /v1/deliveries/{DLV}", (200, shown))
    done = ran(fake, "deliveries", "show", "dlv_01m7")
    words = "dead at once: 404 is a final status of its retry policy"
    assert (words in done.out) is (state == "dead")
    fake.script("GET /v1/events", (200, page(event())))
    assert "404 (a final status)" in ran(fake, "events", "show", EVT[4:14]).out


@pytest.mark.parametrize(
    ("state", "status", "is_hinted"),
    [
        ("pending", 401, True),
        ("dead", 403, True),
        ("delivered", 401, False),
        ("pending", 500, False),
    ],
)
def test_a_receiver_that_refuses_us_is_shown_with_its_host_and_a_hint(
    fake: Fake, state: str, status: int, is_hinted: bool
) -> None:
    shown = delivery(state, last_status=status)
    fake.script(f"GET /v1/deliveries/{DLV}", (200, shown), (200, shown))
    done = ran(fake, "deliveries", "show", DLV)
    assert f"{SUB} (my.app)" in done.out
    assert (f"rotate-secret {SUB}" in done.out) is is_hinted


def test_deliveries_from_a_pipe_are_retried(fake: Fake) -> None:
    second = DLV[:-1] + "p"
    fake.script(f"GET /v1/deliveries/{DLV}", (200, delivery("dead")))
    fake.script(f"GET /v1/deliveries/{second}", (200, delivery("dead", id=second)))
    fake.script(f"POST /v1/deliveries/{DLV}/retry", (202, delivery("pending")))
    fake.script(
        f"POST /v1/deliveries/{second}/retry", (409, {"title": "Conflict", "detail": "was deleted"})
    )
    done = ran(fake, "deliveries", "retry", "-", "-q", stdin=f"{DLV}\n{second}\n")
    assert (done.code, done.out) == (5, f"{DLV}\n")
    assert "was deleted" in done.err
    assert "1 of 2" in done.err


def test_a_replay_is_only_counted_without_a_terminal_to_confirm_on(fake: Fake) -> None:
    fake.script("POST /v1/replays", (200, replay_count(3)))
    refused = ran(fake, "deliveries", "replay", "--since", "1d")
    assert refused.code == 2
    assert "replay 3 dead deliveries since 1d ago?" in refused.err
    counted = ran(fake, "deliveries", "replay", "--since", "1d", "--dry-run", "--json")
    assert json.loads(counted.out)["count"] == 3
    assert ran(fake, "deliveries", "replay", "--dry-run").out.endswith("  of all time\n")
    assert all(body["dry_run"] for body in bodies(fake, "POST /v1/replays"))


def test_a_replay_of_more_than_is_counted_says_so(fake: Fake) -> None:
    more = replay_count(10_000) | {"count_is_capped": True}
    begun = replay("done", 12_000) | {"count": 10_000, "count_is_capped": True}
    fake.script("POST /v1/replays", (200, more), (200, more), (202, begun))
    refused = ran(fake, "deliveries", "replay")
    assert "replay more than 10000 dead deliveries of all time?" in refused.err
    done = ran(fake, "deliveries", "replay", "--yes")
    assert "12000 of more than 10000" in done.out


def test_a_replay_is_sent_again_with_one_idempotency_key(fake: Fake) -> None:
    fake.script("POST /v1/replays", (200, replay_count(3)), (504, None), (202, replay("done", 3)))
    assert ran(fake, "deliveries", "replay", "--yes").code == 0
    keys = [headers.get("idempotency-key") for _, headers, _ in fake.asked]
    assert (len(keys), keys[0], len({*keys[1:]})) == (3, None, 1)


def test_a_replay_is_followed_to_its_end(fake: Fake) -> None:
    fake.script("POST /v1/replays", (200, replay_count(3)), (202, replay()))
    fake.script(f"GET /v1/replays/{RPL}", (200, replay(replayed=1)), (200, replay("done", 3)))
    words = [
        "--status",
        "held",
        "--since",
        "2026-11-20T10:00:00Z",
        "--types",
        "job.*",
        "--rate",
        "5",
        "--yes",
        "--wait",
    ]
    done = ran(fake, "deliveries", "replay", *words)
    assert done.code == 0
    assert "done" in done.out
    assert "3 of 3" in done.out
    assert "0 of 3" in done.err
    assert "1 of 3" in done.err
    wanted = {"status": "held", "since": "2026-11-20T10:00:00Z", "types": ["job.*"], "rate": 5.0}
    assert bodies(fake, "POST /v1/replays") == [{**wanted, "dry_run": True}, wanted]


def test_a_canceled_replay_exits_5(fake: Fake) -> None:
    fake.script("POST /v1/replays", (200, replay_count(3)), (202, replay()))
    fake.script(f"GET /v1/replays/{RPL}", (200, replay("canceled", 1)))
    assert ran(fake, "deliveries", "replay", "--yes", "--wait").code == 5


def test_missed_events_are_replayed_to_a_subscriber(fake: Fake) -> None:
    fake.script(f"GET /v1/subscribers/{SUB}", (200, subscriber()))
    fake.script("POST /v1/replays", (200, replay_count(0)), (202, replay("done", count=0)))
    done = ran(fake, "subscribers", "replay", SUB, "--missed", "--until", "1h")
    assert done.code == 0, "an empty replay needs no confirmation"
    body = bodies(fake, "POST /v1/replays")[1]
    assert body.keys() == {"subscriber", "missed", "until"}
    assert (body["subscriber"], body["missed"]) == (SUB, True)


# -- accounts and keys


def test_accepted_credentials_exit_0(fake: Fake) -> None:
    fake.script("GET /v1/accounts", (200, page(account("b"), account("a"))))
    fake.script("POST /v1/accounts/a/check", (200, account_check("a")))
    fake.script(
        "POST /v1/accounts/b/check",
        (200, account_check("b", authorized=None, status=404, vendor_message=None)),
    )
    done = ran(fake, "accounts", "check")
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()[1:]] == [
        ["b", "unclear"],
        ["a", "accepted"],
    ]
    assert "1201: Task not found" in done.out


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({"authorized": False, "status": 401}, "REFUSED"),
        ({"authorized": None, "status": 503}, "unclear"),
        (
            {
                "reachable": False,
                "authorized": None,
                "status": None,
                "latency_ms": None,
                "vendor_code": None,
            },
            "not reach",
        ),
    ],
)
def test_an_unusable_account_exits_1(fake: Fake, differs: Json, words: str) -> None:
    fake.script("POST /v1/accounts/a/check", (200, account_check("a")))
    fake.script("POST /v1/accounts/b/check", (200, account_check("b", **differs)))
    done = ran(fake, "accounts", "check", "a", "b")
    assert done.code == 1
    assert words in done.out
    assert "1 of 2 accounts failed: b" in done.err
    document = json.loads(ran(fake, "accounts", "check", "a", "b", "--json").out)
    assert [row["account"] for row in document["data"]] == ["a", "b"]


def test_accounts_are_checked_locally_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    account = {
        "vendor": "dreamto",
        "api_key": "orc-not-to-be-seen",
        "base_url": "http://127.0.0.1:1",
    }
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    monkeypatch.setenv("ORCHESTRATOR_ALLOW_PRIVATE", '["127.0.0.0/8"]')
    monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS", json.dumps({"main": account}))
    done = run("accounts", "check", "main")
    assert done.code == 1
    assert "asking from here" in done.err
    assert "not reached" in done.out
    assert "not-to-be-seen" not in done.out + done.err
    assert run("accounts", "check", "other").code == 3
    assert run("accounts", "check", "--server", "http://127.0.0.1:1").code == 8


def test_a_key_is_created_with_a_limit_and_revoked_by_a_prefix_of_its_id(fake: Fake) -> None:
    fake.script("POST /v1/keys", (201, api_key(key="orc_" + "x" * 32)))
    assert (
        ran(fake, "keys", "create", "--name", "ci", "--scope", "write", "--rate-limit", "90").code
        == 0
    )
    assert bodies(fake, "POST /v1/keys") == [{"name": "ci", "scope": "write", "rate_limit": 90}]
    fake.script("GET /v1/keys", (200, page(api_key(last_used_at=AT))))
    assert "2026-11-20 10:00:00" in ran(fake, "keys", "ls").out
    fake.script(f"DELETE /v1/keys/{KEY_ID}", (204, None))
    assert ran(fake, "keys", "revoke", "key_01m7").code == 2
    assert ran(fake, "keys", "revoke", "key_01m7", "--yes").code == 0
    assert fake.asked[-1][0] == f"DELETE /v1/keys/{KEY_ID}"
    assert ran(fake, "keys", "revoke", "orc_" + "x" * 32, "--yes").code == 2, (
        "a key must not appear in a path"
    )


@pytest.mark.parametrize("served", [True, False])
def test_a_key_without_a_scope_may_write_and_the_command_says_so(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    fake.script("POST /v1/keys", (201, api_key(key="orc_" + "x" * 32)))
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    made = ran(fake, "keys", "create") if served else run("keys", "create")
    assert made.code == 0
    assert "(write)" in made.err
    assert "only --scope admin manages keys" in made.err
    if served:
        assert bodies(fake, "POST /v1/keys") == [{"name": "cli", "scope": "write"}]
    else:
        listed = json.loads(run("keys", "ls", "--json").out)["data"]
        assert [key["scope"] for key in listed] == ["write"]


def test_a_key_is_revoked_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PORT", "1")
    made = json.loads(run("keys", "create", "--rate-limit", "7", "--json").out)
    assert made["rate_limit"] == 7
    other = json.loads(run("keys", "create", "--json").out)
    assert run("keys", "revoke", made["id"], "--yes").code == 0
    listed = {
        row["id"]: row["revoked_at"] for row in json.loads(run("keys", "ls", "--json").out)["data"]
    }
    assert listed[made["id"]] is not None
    assert listed[other["id"]] is None
    assert run("keys", "revoke", "key_0", "--yes").code == 2, "the prefix of both"
    assert run("keys", "revoke", "key_7zzz", "--yes").code == 3


async def test_a_running_service_serves_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real server answers as the scripted one above, and `--json` prints what it sent."""
    async with live(tmp_path, ["kling"]) as it:
        monkeypatch.setenv("ORCHESTRATOR_SERVER", it.url)
        monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY)

        async def does(*words: str) -> Ran:
            return await asyncio.to_thread(run, *words)

        assert "accepted" in (await does("accounts", "check")).out
        (found,) = (await it.api.get("/v1/subscribers"))["data"]
        short = found["id"][:20]
        tested = await does("subscribers", "test", short)
        assert tested.code == 0
        assert "POST http" in tested.out
        assert re.search(r"webhook-signature: \*\*\*$", tested.out, re.MULTILINE)
        assert '"type":"subscriber.test"' in tested.out
        assert "delivered: answered 200" in tested.out
        assert (
            await does("subscribers", "update", short, "--rate-limit", "50", "--types", "job.*")
        ).code == 0
        again = await does(
            "deliveries", "replay", "--status", "delivered", "--since", "1h", "--yes", "--wait"
        )
        assert again.code == 0
        assert "1 of 1" in again.out
        assert (await does("subscribers", "pause", short)).code == 0
        assert (await does("subscribers", "test", short)).code == 0, (
            "a paused subscriber can be tested"
        )
        assert (await does("subscribers", "resume", short)).code == 0
        last = (await it.api.get("/v1/deliveries?limit=1"))["data"][0]
        assert (await does("deliveries", "retry", last["id"])).code == 0
        rotated = await does("subscribers", "rotate-secret", short, "--grace", "1h")
        assert re.search(r"^whsec_\S+$", rotated.out, re.MULTILINE)
        missed = await does(
            "subscribers", "replay", short, "--missed", "--since", "1h", "--dry-run"
        )
        assert missed.code == 0
        for name in ("subscribers", "events", "deliveries"):
            printed = (await does(name, "ls", "--json", "--limit", "200")).out
            assert json.loads(printed) == await it.api.get(f"/v1/{name}?limit=200")
        assert (await does("subscribers", "rm", short, "--yes")).code == 0
        assert (await does("subscribers", "show", found["id"])).code == 3
