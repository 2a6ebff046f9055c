"""Jobs and events from the command line: several at once, watched, asked before, and told of again."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.ids import earliest
from tests.harness.command_line import JOB, Fake, faked, isolate, job, page, run

OTHER = JOB[:-1] + "0"
EVENT = JOB.replace("job_", "evt_")
SUBSCRIBER = JOB.replace("job_", "sub_")
DELIVERY = JOB.replace("job_", "dlv_")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with faked() as found:
        yield found


def event(number: int = 0, **data: Any) -> dict[str, Any]:
    return {
        "object": "event",
        "type": f"job.{data.get('status', 'succeeded')}",
        "timestamp": "2026-11-20T10:00:00.000Z",
        "id": f"{EVENT[:-1]}{number}",
        "sequence": 1,
        "data": data,
        "job": data.get("id"),
        "source": "push",
    }


def part(*events: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [*events], "has_more": False, "next_cursor": EVENT}


def known(fake: Fake, *jobs: dict[str, Any]) -> None:
    for one in jobs:
        fake.script(f"GET /v1/jobs/{one['id']}", (200, one))


@pytest.mark.parametrize("verb", ["cancel", "refresh", "retry"])
def test_several_jobs_are_steered_at_once_and_those_refused_are_named(
    fake: Fake, verb: str
) -> None:
    known(fake, job(), job(id=OTHER))
    fake.script(
        f"POST /v1/jobs/{JOB}/{verb}", (409, {"title": "Conflict", "detail": "is final already"})
    )
    fake.script(f"POST /v1/jobs/{OTHER}/{verb}", (200, job("canceled", id=OTHER)))
    options = ("--yes",) if verb == "cancel" else ()
    ran = run(
        "--server", fake.url, "jobs", verb, "-", JOB, *options, "--json", stdin=f"{JOB}\n{OTHER}\n"
    )
    assert ran.code == 5
    assert [one["id"] for one in json.loads(ran.out)["data"]] == [OTHER]
    assert f"{JOB}: Conflict (409): is final already" in ran.err
    assert [call for call, _, _ in fake.asked if call.startswith("POST")] == [
        f"POST /v1/jobs/{JOB}/{verb}",
        f"POST /v1/jobs/{OTHER}/{verb}",
    ]


def test_a_pipe_of_one_is_answered_as_a_pipe_of_many(fake: Fake) -> None:
    known(fake, job())
    fake.script(f"POST /v1/jobs/{JOB}/refresh", (200, job()))
    piped = json.loads(
        run("--server", fake.url, "jobs", "refresh", "-", "--json", stdin=f"{JOB}\n").out
    )
    assert (piped["object"], [one["id"] for one in piped["data"]]) == ("list", [JOB])
    assert json.loads(run("--server", fake.url, "jobs", "refresh", JOB, "--json").out)["id"] == JOB


def test_where_all_are_refused_there_is_no_table(fake: Fake) -> None:
    known(fake, job(), job(id=OTHER))
    for one in (JOB, OTHER):
        fake.script(
            f"POST /v1/jobs/{one}/cancel",
            (409, {"title": "Conflict", "detail": "is final already"}),
        )
    ran = run("--server", fake.url, "jobs", "cancel", JOB, OTHER, "--yes")
    assert (ran.code, ran.out) == (5, "")
    assert "2 of 2 jobs were refused" in ran.err


def test_several_are_not_canceled_where_nobody_can_be_asked(fake: Fake) -> None:
    known(fake, job(), job(id=OTHER))
    ran = run("--server", fake.url, "jobs", "cancel", JOB, OTHER)
    assert ran.code == 2
    assert "--yes" in ran.err
    assert all(call.startswith("GET") for call, _, _ in fake.asked)


def test_one_is_canceled_without_asking(fake: Fake) -> None:
    known(fake, job())
    fake.script(f"POST /v1/jobs/{JOB}/cancel", (200, job("canceled")))
    assert run("--server", fake.url, "jobs", "cancel", JOB, "-q").out == f"{JOB}\n"


def asked(fake: Fake, reply: str) -> tuple[int, str]:
    """Return the exit code and the screen of canceling two jobs on a terminal where `reply` is typed."""
    seen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    words = [
        sys.executable,
        "-m",
        "orchestrator",
        "--server",
        fake.url,
        "jobs",
        "cancel",
        JOB,
        OTHER,
    ]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        screen = b""
        while b"[y/N]" not in screen:
            screen += os.read(seen, 4096)
        os.write(seen, f"{reply}\n".encode())
        code = process.wait(timeout=30)
    os.close(seen)
    return code, screen.decode()


@pytest.mark.parametrize(("reply", "code", "canceled"), [("y", 0, 2), ("n", 1, 0)])
def test_on_a_terminal_several_are_shown_and_asked_for(
    fake: Fake, reply: str, code: int, canceled: int
) -> None:
    known(fake, job("queued"), job("queued", id=OTHER))
    for one in (JOB, OTHER):
        fake.script(f"POST /v1/jobs/{one}/cancel", (200, job("canceled", id=one)))
    ended, screen = asked(fake, reply)
    assert ended == code
    assert f"{JOB} queued" in screen
    assert sum(call.startswith("POST") for call, _, _ in fake.asked) == canceled


@pytest.mark.parametrize(("last", "code"), [("succeeded", 0), ("failed", 6), ("expired", 6)])
def test_watching_ends_when_all_are_final_with_a_line_for_every_change(
    fake: Fake, last: str, code: int
) -> None:
    known(fake, job("processing", version=1), job("succeeded", id=OTHER, version=4))
    ended = job(last, version=3)
    changes = [
        event(1, **job("processing", version=2)),
        event(2, **ended),
        event(3, **job(id=JOB[:-1] + "1")),
    ]
    fake.script("GET /v1/events", (200, part()), (200, part()), (200, part(*changes)))
    ran = run("--server", fake.url, "jobs", "watch", JOB, OTHER)
    assert ran.code == code, ran.err
    assert [line.split()[:2] for line in ran.out.splitlines()] == [
        [JOB, "processing"],
        [OTHER, "succeeded"],
        [JOB, last],
    ]


def test_a_watched_job_that_changed_while_events_were_lost_is_asked_for(fake: Fake) -> None:
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
def test_watching_wants_jobs_or_all(words: tuple[str, ...]) -> None:
    assert run("--server", "http://127.0.0.1:1", "jobs", "watch", *words).code == 2


def test_events_are_listed_back_to_a_moment(fake: Fake) -> None:
    known(fake, job())
    fresh, old = (earliest("evt", SystemClock().now() - timedelta(hours=hours)) for hours in (1, 3))
    first, rest = {**event(), "id": fresh}, {**event(), "id": old}
    fake.script("GET /v1/events", (200, page(first, more=True)), (200, page(rest, more=True)))
    ran = run(
        "--server", fake.url, "events", "ls", "--type", "job.*", "--job", JOB, "--since", "2h", "-q"
    )
    assert ran.out == f"{fresh}\n"
    assert "type=job.%2A" in fake.asked[-1][0]
    assert f"job={JOB}" in fake.asked[-1][0]


@pytest.mark.parametrize(
    "words",
    ["jobs ls --since", "events ls --since", "deliveries ls --since", "deliveries replay --dry-run --since",
     "listen --since", "keys create --name x --expires", "submit --account a --prompt x --deadline"],
)  # fmt: skip
def test_a_span_that_nobody_can_mean_is_refused_in_words(words: str) -> None:
    refused = run("--server", "http://127.0.0.1:1", *words.split(), "999999999d")
    assert (refused.code, refused.out) == (2, "")
    assert "is longer than a hundred years" in " ".join(refused.err.replace("│", " ").split())


def test_a_moment_before_there_were_any_events_is_before_all_of_them(fake: Fake) -> None:
    fake.script("GET /v1/events", (200, page(event())))
    assert (
        run("--server", fake.url, "events", "ls", "--since", "30000d", "-q").out
        == f"{event()['id']}\n"
    )


def test_what_was_passed_by_beyond_that_moment_is_no_more_of_the_list(fake: Fake) -> None:
    old = earliest("evt", SystemClock().now() - timedelta(hours=3))
    fake.script("GET /v1/events", (200, {**page(), "has_more": True, "next_cursor": old}))
    said = json.loads(run("--server", fake.url, "events", "ls", "--since", "2h", "--json").out)
    assert (said["data"], said["has_more"], said["next_cursor"], len(fake.asked)) == (
        [],
        False,
        None,
        1,
    )


def test_an_event_is_replayed_to_all_or_to_one(fake: Fake) -> None:
    fake.script(f"GET /v1/events/{EVENT}", (200, {**event(), "id": EVENT}))
    fake.script(
        f"POST /v1/events/{EVENT}/replay", (202, {"object": "replay", "event": EVENT, "count": 3})
    )
    assert "deliveries  3" in run("--server", fake.url, "events", "replay", EVENT).out
    fake.script(f"GET /v1/subscribers/{SUBSCRIBER}", (200, {"id": SUBSCRIBER}))
    fake.script("GET /v1/deliveries", (200, page({"id": DELIVERY})), (200, page()))
    fake.script(
        f"POST /v1/deliveries/{DELIVERY}/retry", (202, {"id": DELIVERY, "status": "pending"})
    )
    assert (
        run("--server", fake.url, "events", "replay", EVENT, "--to", SUBSCRIBER, "-q").out
        == f"{DELIVERY}\n"
    )
    ran = run("--server", fake.url, "events", "replay", EVENT, "--to", SUBSCRIBER)
    assert ran.code == 3
    assert "was not owed" in ran.err


def test_an_event_is_shown_with_whom_it_went_to(fake: Fake) -> None:
    fake.script("GET /v1/events", (200, page({**event(status="failed"), "id": EVENT})))
    owed = {"id": DELIVERY, "status": "delivered", "subscriber": SUBSCRIBER, "last_status": 204}
    fake.script("GET /v1/deliveries", (200, page(owed)))
    ran = run("--server", fake.url, "events", "show", EVENT[4:14])
    assert f"{DELIVERY} delivered to {SUBSCRIBER} 204" in ran.out
