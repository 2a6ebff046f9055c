"""Commands for jobs and events: batches, confirmation, watching, replays."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.job_history import resolution, summary
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.ids import earliest
from orchestrator.schemas import Job, TimelineEntry
from tests.harness.command_line import (
    DELIVERY,
    EVENT,
    JOB,
    SUBSCRIBER,
    Fake,
    account,
    delivery,
    entry,
    event,
    job,
    on_terminal,
    page,
    run,
    subscriber,
)
from tests.harness.scripted_client import job_document

OTHER = JOB[:-1] + "0"


def numbered(number: int, data: dict[str, Any]) -> dict[str, Any]:
    return event(data, id=f"{EVENT[:-1]}{number}")


def part(*events: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [*events], "has_more": False, "next_cursor": EVENT}


def known(fake: Fake, *jobs: dict[str, Any]) -> None:
    for described in jobs:
        fake.script(f"GET /v1/jobs/{described['id']}", (200, described))


def test_retries_are_chosen_by_error_and_say_what_they_may_do(fake: Fake) -> None:
    error = {
        "code": "vendor_failed", "message": "no", "vendor_code": None, "vendor_message": None
    }  # fmt: skip
    known(fake, job("failed", error=error), job("failed", id=OTHER))
    fake.script(f"POST /v1/jobs/{JOB}/retry", (200, job("failed")))
    options = ("--error", "vendor_failed", "--again", "--dry-run")
    ran = run("--server", fake.url, "jobs", "retry", "-", *options, "-q", stdin=f"{JOB}\n{OTHER}\n")
    assert (ran.code, ran.out.split()) == (0, [JOB])
    assert "left out, without the error vendor_failed: 1 job" in ran.err
    assert [call for call, _, _ in fake.asked if call.startswith("POST")] == [
        f"POST /v1/jobs/{JOB}/retry"
    ]


ERROR = {"code": "vendor_failed", "vendor_code": None, "vendor_message": None}
BULK = ("jobs", "retry", "--error", "vendor_failed", "--since", "1h")
THIRD = JOB[:-1] + "1"


def failing(fake: Fake) -> None:
    """Script three jobs: one to retry, one retried already, one with another error."""
    jobs = [job("failed", id=job_id, error=ERROR) for job_id in (JOB, OTHER)]
    other = job("failed", id=THIRD, error=ERROR | {"code": "vendor_auth"})
    fake.script("GET /v1/jobs", (200, page(*jobs, more=True)), (200, page(other)))
    retried = {"code": "already_retried", "title": "Conflict", "detail": "is live"}
    fake.script(f"POST /v1/jobs/{OTHER}/retry", (409, retried))
    fake.script(
        f"POST /v1/jobs/{JOB}/retry", (200, jobs[0]), (202, job("queued", id=THIRD, error=None))
    )


def retries(fake: Fake) -> list[Any]:
    return [body for call, _, body in fake.asked if call == f"POST /v1/jobs/{JOB}/retry"]


def test_a_bulk_retry_takes_filters_and_passes_over_what_was_retried(fake: Fake) -> None:
    failing(fake)
    ran = run("--server", fake.url, *BULK, "--yes", "-q")
    assert (ran.code, ran.out) == (0, f"{THIRD}\n")
    assert "status=failed" in fake.asked[0][0]
    assert "created_after=" in fake.asked[0][0]
    assert "their work is live or has succeeded: 1 job; --again" in ran.err
    assert "without the error vendor_failed: 1 job" in ran.err
    assert retries(fake) == [{"dry_run": True}, {}]


def test_a_dry_run_of_a_bulk_retry_names_the_cost_and_creates_nothing(fake: Fake) -> None:
    failing(fake)
    ran = run("--server", fake.url, *BULK, "--dry-run")
    assert ran.code == 0
    assert JOB in ran.out
    assert "1 new render, each of which the vendor charges for (main: 1); a dry run" in ran.err
    assert retries(fake) == [{"dry_run": True}]


def test_a_bulk_retry_does_nothing_without_a_terminal_to_confirm_on(fake: Fake) -> None:
    failing(fake)
    ran = run("--server", fake.url, *BULK)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert retries(fake) == [{"dry_run": True}]


@pytest.mark.parametrize("words", [(), (JOB, "--account", "main"), ("--again", "--yes")])
def test_a_retry_takes_ids_or_filters(words: tuple[str, ...]) -> None:
    assert run("--server", "http://127.0.0.1:1", "jobs", "retry", *words).code == 2


def test_ctrl_c_ends_a_batch_of_retries(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    known(fake, job("failed"), job("failed", id=OTHER))
    sent: list[str] = []

    def stopped(_: Client, __: object, path: str, *___: object) -> Job:
        sent.append(path)
        raise Failure("stopped; it may have been received", code=Exit.INTERRUPTED)

    monkeypatch.setattr(Client, "order", stopped)
    assert run("--server", fake.url, "jobs", "retry", JOB, OTHER).code == 130
    assert sent == [f"/v1/jobs/{JOB}/retry"]


def test_a_job_is_shown_with_input_metadata_and_deliveries(fake: Fake) -> None:
    large = {"prompt": "a cat", "image": "A" * 5000}
    known(fake, job("failed", error=ERROR, input=large, metadata={"order": "991"}))
    owed = {"delivery": DELIVERY, "event": EVENT, "subscriber": SUBSCRIBER, "status": "pending"}
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page(entry("delivery", **owed))))
    waits = {"reason": "scheduled", "until": "2026-11-20T11:00:00.000Z"}
    described = delivery("pending", last_status=503, waiting=waits, event_type="job.failed")
    fake.script("GET /v1/deliveries", (200, page(described)))
    shown = run("--server", fake.url, "jobs", "show", JOB).out
    assert "prompt=a cat\n" in shown
    assert "... (5,000 characters; --json shows all)" in shown
    assert "metadata       order=991" in shown
    assert "deadline       2026-11-21 10:00:00" in shown
    line = (
        f"{DELIVERY} pending, job.failed to my.app: 503 after 1 try, next try 2026-11-20 11:00:00"
    )
    assert line in shown


@pytest.mark.parametrize("verb", ["cancel", "refresh", "retry"])
def test_a_batch_goes_on_after_a_refusal_and_names_it(fake: Fake, verb: str) -> None:
    known(fake, job(), job(id=OTHER))
    fake.script(
        f"POST /v1/jobs/{JOB}/{verb}",
        (409, {"code": "conflict", "title": "Conflict", "detail": "is final already"}),
    )
    fake.script(f"POST /v1/jobs/{OTHER}/{verb}", (200, job("canceled", id=OTHER)))
    options = ("--yes",) if verb == "cancel" else ()
    ran = run(
        "--server", fake.url, "jobs", verb, "-", JOB, *options, "--json", stdin=f"{JOB}\n{OTHER}\n"
    )
    assert ran.code == 5
    assert [row["id"] for row in json.loads(ran.out)["data"]] == [OTHER]
    assert f"{JOB}: Conflict: is final already" in ran.err
    assert [call for call, _, _ in fake.asked if call.startswith("POST")] == [
        f"POST /v1/jobs/{JOB}/{verb}",
        f"POST /v1/jobs/{OTHER}/{verb}",
    ]


def test_a_pipe_of_one_id_is_answered_as_a_list(fake: Fake) -> None:
    known(fake, job())
    fake.script(f"POST /v1/jobs/{JOB}/refresh", (200, job()))
    piped = json.loads(
        run("--server", fake.url, "jobs", "refresh", "-", "--json", stdin=f"{JOB}\n").out
    )
    assert (piped["object"], [row["id"] for row in piped["data"]]) == ("list", [JOB])
    assert json.loads(run("--server", fake.url, "jobs", "refresh", JOB, "--json").out)["id"] == JOB


def test_a_batch_that_is_refused_entirely_prints_no_table(fake: Fake) -> None:
    known(fake, job(), job(id=OTHER))
    for job_id in (JOB, OTHER):
        fake.script(
            f"POST /v1/jobs/{job_id}/cancel",
            (409, {"code": "conflict", "title": "Conflict", "detail": "is final already"}),
        )
    ran = run("--server", fake.url, "jobs", "cancel", JOB, OTHER, "--yes")
    assert (ran.code, ran.out) == (5, "")
    assert "2 of 2 jobs were refused" in ran.err


def test_a_batch_is_not_canceled_without_a_terminal_to_confirm_on(fake: Fake) -> None:
    known(fake, job(), job(id=OTHER))
    ran = run("--server", fake.url, "jobs", "cancel", JOB, OTHER)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert all(call.startswith("GET") for call, _, _ in fake.asked)


def test_a_single_job_is_canceled_without_confirmation(fake: Fake) -> None:
    known(fake, job())
    fake.script(f"POST /v1/jobs/{JOB}/cancel", (200, job("canceled")))
    assert run("--server", fake.url, "jobs", "cancel", JOB, "-q").out == f"{JOB}\n"


@pytest.mark.parametrize(("reply", "code", "canceled"), [("y", 0, 2), ("n", 1, 0)])
def test_a_batch_is_previewed_and_confirmed_on_a_terminal(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, reply: str, code: int, canceled: int
) -> None:
    known(fake, job("queued"), job("queued", id=OTHER))
    for job_id in (JOB, OTHER):
        fake.script(f"POST /v1/jobs/{job_id}/cancel", (200, job("canceled", id=job_id)))
    words = ("--server", fake.url, "jobs", "cancel", JOB, OTHER)
    ended, screen = on_terminal(monkeypatch, *words, typed=f"{reply}\n")
    assert ended == code
    assert "[y/N]" in screen
    assert f"{JOB} queued" in screen
    assert sum(call.startswith("POST") for call, _, _ in fake.asked) == canceled


@pytest.mark.parametrize(("last", "code"), [("succeeded", 0), ("failed", 6), ("expired", 6)])
def test_watching_ends_when_all_are_final_with_a_line_for_every_change(
    fake: Fake, last: str, code: int
) -> None:
    known(fake, job("processing", version=1), job("succeeded", id=OTHER, version=4))
    ended = job(last, version=3)
    changes = [
        numbered(1, job("processing", version=2)),
        numbered(2, ended),
        numbered(3, job(id=JOB[:-1] + "1")),
    ]
    fake.script("GET /v1/events", (200, part()), (200, part()), (200, part(*changes)))
    ran = run("--server", fake.url, "jobs", "watch", JOB, OTHER)
    assert ran.code == code, ran.err
    assert [line.split()[:2] for line in ran.out.splitlines()] == [
        [JOB, "processing"],
        [OTHER, "succeeded"],
        [JOB, last],
    ]


def test_a_watched_job_is_read_again_after_a_gap_in_the_log(fake: Fake) -> None:
    fake.script(
        f"GET /v1/jobs/{JOB}",
        (200, job("processing", version=1)),
        (200, job("succeeded", version=5)),
    )
    gone = {"title": "The log begins later", "code": "cursor_gone", "next_cursor": EVENT}
    fake.script("GET /v1/events", (200, part()), (410, gone), (200, part()))
    ran = run("--server", fake.url, "jobs", "watch", JOB, "-q")
    assert (ran.code, ran.out) == (0, f"{JOB}\n")


@pytest.mark.parametrize("words", [(), (JOB, "--all")])
def test_watching_requires_jobs_or_all(words: tuple[str, ...]) -> None:
    assert run("--server", "http://127.0.0.1:1", "jobs", "watch", *words).code == 2


def test_events_are_listed_back_to_an_instant(fake: Fake) -> None:
    known(fake, job())
    fresh, old = (earliest("evt", SystemClock().now() - timedelta(hours=hours)) for hours in (1, 3))
    first, rest = event(id=fresh), event(id=old)
    fake.script("GET /v1/events", (200, page(first, more=True)), (200, page(rest, more=True)))
    ran = run(
        "--server", fake.url, "events", "ls", "--type", "job.*", "--job", JOB, "--since", "2h", "-q"
    )
    assert ran.out == f"{fresh}\n"
    assert "type=job.%2A" in fake.asked[-1][0]
    assert f"job={JOB}" in fake.asked[-1][0]


@pytest.mark.parametrize(
    "words",
    [
        "jobs ls --since",
        "events ls --since",
        "deliveries ls --since",
        "deliveries replay --dry-run --since",
        "listen --since",
        "keys create --name x --expires",
        "submit --account a --prompt x --deadline",
    ],
)
def test_a_span_over_a_hundred_years_is_refused(words: str) -> None:
    refused = run("--server", "http://127.0.0.1:1", *words.split(), "999999999d")
    assert (refused.code, refused.out) == (2, "")
    assert "is longer than a hundred years" in " ".join(refused.err.replace("│", " ").split())


def test_an_instant_before_1970_includes_all_events(fake: Fake) -> None:
    fake.script("GET /v1/events", (200, page(event())))
    assert (
        run("--server", fake.url, "events", "ls", "--since", "30000d", "-q").out
        == f"{event()['id']}\n"
    )


def test_a_cursor_older_than_the_instant_ends_the_list(fake: Fake) -> None:
    old = earliest("evt", SystemClock().now() - timedelta(hours=3))
    fake.script("GET /v1/events", (200, {**page(), "has_more": True, "next_cursor": old}))
    listed = json.loads(run("--server", fake.url, "events", "ls", "--since", "2h", "--json").out)
    assert (listed["data"], listed["has_more"], listed["next_cursor"]) == ([], False, None)
    assert len(fake.asked) == 1


def test_an_event_is_replayed_to_all_or_one_subscriber(fake: Fake) -> None:
    fake.script(f"GET /v1/events/{EVENT}", (200, event()))
    fake.script(
        f"POST /v1/events/{EVENT}/replay",
        (202, {"object": "replay", "event": EVENT, "subscriber": None, "count": 3}),
    )
    assert "deliveries  3" in run("--server", fake.url, "events", "replay", EVENT).out
    fake.script(f"GET /v1/subscribers/{SUBSCRIBER}", (200, subscriber()))
    fake.script("GET /v1/deliveries", (200, page(delivery())), (200, page()))
    fake.script(f"POST /v1/deliveries/{DELIVERY}/retry", (202, delivery("pending")))
    assert (
        run("--server", fake.url, "events", "replay", EVENT, "--to", SUBSCRIBER, "-q").out
        == f"{DELIVERY}\n"
    )
    ran = run("--server", fake.url, "events", "replay", EVENT, "--to", SUBSCRIBER)
    assert ran.code == 3
    assert "was not owed" in ran.err


def test_an_event_is_shown_with_its_deliveries(fake: Fake) -> None:
    fake.script("GET /v1/events", (200, page(event({"status": "failed"}))))
    fake.script("GET /v1/deliveries", (200, page(delivery(last_status=204))))
    ran = run("--server", fake.url, "events", "show", EVENT[4:14])
    assert f"{DELIVERY} delivered to {SUBSCRIBER} 204" in ran.out


def test_pushes_that_were_refused_are_no_missing_pushes() -> None:
    at = "2026-11-20T10:00:00.000Z"
    outcomes = ["rejected: no signature matches"] * 3
    pushes = [{"id": "1", "at": at, "kind": "push", "outcome": text} for text in outcomes]
    entries = [*pushes, {"id": "4", "at": at, "kind": "poll", "outcome": "succeed"}]
    past = summary([TimelineEntry.model_validate(entry) for entry in entries])
    assert past.reports == "0 pushes, 3 refused, 1 poll"
    job = Job.model_validate(job_document(status="succeeded", resolved_by="poll"))
    assert resolution(job, past).startswith("the pushes were refused (see `orchestrator doctor`)")


LATER = "2999-01-01T00:00:00.000Z"
HELD = {
    "reason": "unauthorized", "since": "2026-11-20T10:00:00.000Z",
    "message": "kling answered 401", "next_check_at": LATER,
}  # fmt: skip


#: An account whose vendor pushes nothing.
SILENT = {"expects_pushes": False, "lookup": "none"}


@pytest.mark.parametrize(
    ("status", "job_has", "account_has", "said"),
    [
        ("queued", {}, {"in_flight": 5, "max_in_flight": 5}, "one of the 5 slots of main"),
        ("queued", {}, {"paused_until": LATER}, "until 2999-01-01 00:00:00: the vendor of main"),
        ("queued", {}, {"held": HELD}, "its account is held (unauthorized): kling answered 401"),
        ("queued", {}, {"in_flight": 0}, "to be submitted"),
        ("submitting", {}, {}, "answer to its submission"),
        ("submitted", {"next_poll_at": LATER}, {}, "cannot be queried"),
        ("processing", {"next_poll_at": "2026-11-20T11:00:00.000Z"}, {}, "or for the next poll"),
        ("processing", {"next_poll_at": "2026-11-20T11:00:00.000Z"}, SILENT, "  for the next poll"),
        ("submitted", {"next_poll_at": LATER}, SILENT, "and it pushes nothing"),
        ("submitting", {}, SILENT, "a lost one cannot be looked up"),
    ],
)
def test_a_live_job_is_shown_with_what_it_waits_for(
    fake: Fake, status: str, job_has: dict[str, Any], account_has: dict[str, Any], said: str
) -> None:
    live = {"output": None, "resolved_by": None, "finished_at": None} | job_has
    fake.script(f"GET /v1/jobs/{JOB}", (200, job(status, **live)))
    polls = [entry("submit", outcome="accepted"), entry("poll", outcome="not_found")]
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page(*polls)))
    fake.script("GET /v1/accounts/main", (200, account("main", **account_has)))
    done = run("--server", fake.url, "jobs", "show", JOB)
    assert said in done.out, done.err
    assert "until 2026-11-21 10:00:00, when it expires" in done.out
    assert "poll: not_found (the vendor does not know the task)" in done.out
