"""Submitting and subscribing: the requests, and how waiting ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.command_line import (
    JOB,
    KEY,
    SECRET,
    Fake,
    account,
    entry,
    job,
    page,
    run,
    subscriber,
)


def test_submit_builds_the_request_from_file_and_flags(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    Path("order.json").write_text('{"prompt": "from the file", "duration": 5, "extra": {"a": 1}}')
    words = (
        "submit --account main --input @order.json --image https://i.example/1.png"
        " --set duration=10 --set extra.b=x"
    )
    more = (
        "--metadata order=991 --external-id order-991 --deadline 1h"
        " --callback-url https://my.app/h --model m -q"
        " --start-after 2h --priority -3 --fairness-key c7"
    )
    ran = run("--server", fake.url, *words.split(), "--prompt", "a cat", *more.split())
    assert (ran.code, ran.out) == (0, f"{JOB}\n")
    _, headers, body = fake.asked[0]
    assert body == {
        "account": "main",
        "model": "m",
        "input": {
            "prompt": "a cat",
            "image_url": "https://i.example/1.png",
            "duration": 10,
            "extra": {"a": 1, "b": "x"},
        },
        "external_task_id": "order-991",
        "callback_url": "https://my.app/h",
        "metadata": {"order": "991"},
        "deadline": 3600,
        "start_after": 7200,
        "priority": -3,
        "fairness_key": "c7",
    }
    assert len(headers["idempotency-key"]) >= 24


@pytest.mark.parametrize("given", ["tomorrow", "2026-11-20", "2026-11-20T10:00:00", "-5", "2w", ""])
def test_a_start_is_a_time_or_a_span(given: str) -> None:
    ran = run("--server", "http://127.0.0.1:1", "submit", "--start-after", given)
    assert ran.code == 2
    assert "neither a time" in ran.err


def test_a_start_may_be_a_time(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    at = "2026-11-20T12:00:00+02:00"
    assert run("--server", fake.url, "submit", "--start-after", at).code == 0
    assert fake.asked[0][2]["start_after"] == at


def test_an_empty_submission_is_left_to_the_server_to_refuse(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (422, {"title": "Request is not valid"}))
    ran = run("--server", fake.url, "submit")
    assert (ran.code, fake.asked[0][2]) == (2, {"input": {}})
    assert "(422)" in ran.err


def test_submit_reads_stdin_and_sends_the_given_key(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    run(
        "--server",
        fake.url,
        "submit",
        "--input",
        "-",
        "--idempotency-key",
        "mine",
        stdin='{"prompt": "p"}',
    )
    _, headers, body = fake.asked[0]
    assert (headers["idempotency-key"], body) == ("mine", {"input": {"prompt": "p"}})


@pytest.mark.parametrize(
    ("models", "warns"),
    [
        ({"text2video": ["other"]}, True),
        ({"text2video": ["m"]}, False),
        ({"text2video": ["other"], "omni_video": ["m"]}, False),
        ({}, False),
    ],
)
def test_an_unknown_model_is_submitted_with_a_warning(
    fake: Fake, models: dict[str, list[str]], warns: bool
) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    fake.script("GET /v1/accounts/main", (200, account("main", models=models)))
    ran = run("--server", fake.url, "submit", "--prompt", "p")
    assert ran.code == 0
    assert ("known for text2video: other" in ran.err) is warns


@pytest.mark.parametrize(
    ("last", "wait", "code", "words"),
    [
        (job(), ("--wait",), 0, "resolved by push (2 pushes, 1 poll)"),
        (job(resolved_by="poll"), ("--wait", "20"), 0, "a poll found it (2 pushes, 1 poll)"),
        (
            job("failed", error={"code": "vendor_failed", "message": "no"}),
            ("--wait=20",),
            6,
            "vendor_failed: no",
        ),
        (job("expired", resolved_by="clock"), ("--wait", "20"), 6, "expired"),
        (job("canceled", resolved_by="operator"), ("--wait", "20"), 6, "canceled"),
        (job("processing"), ("--wait", "1"), 7, "it keeps running"),
    ],
)
def test_waiting_ends_as_the_job_ends(
    fake: Fake, last: dict[str, Any], wait: tuple[str, ...], code: int, words: str
) -> None:
    fake.script("POST /v1/jobs", (202, job("queued", version=7)))
    fake.script(f"GET /v1/jobs/{JOB}", (200, job("processing")), (304, None), (200, last))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page(*map(entry, ("push", "poll", "push")))))
    ran = run("--server", fake.url, "submit", "--prompt", "p", *wait)
    assert ran.code == code, ran.err
    assert words in ran.out + ran.err
    # The answer to the submission is what is known first, then the last answer.
    waits = [headers for _, headers, _ in fake.asked if "prefer" in headers]
    tags = [(headers["prefer"][:5], headers["if-none-match"]) for headers in waits[:2]]
    assert tags == [("wait=", '"v7"'), ("wait=", '"v3"')]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("the vendor says: too dark", "\n  vendor_failed: the vendor says: too dark\n"),
        ("the render failed", "\n  vendor_failed: the render failed: too dark\n"),
    ],
)
def test_the_vendors_message_of_a_failure_is_printed_once(
    fake: Fake, message: str, words: str
) -> None:
    error = {"code": "vendor_failed", "message": message, "vendor_message": "too dark"}
    fake.script("POST /v1/jobs", (202, job("failed", error=error)))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page()))
    assert words in run("--server", fake.url, "submit", "--prompt", "p", "--wait").err


def test_ctrl_c_detaches_with_a_hint_to_watch(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    fake.script(f"GET /v1/jobs/{JOB}", (200, job("processing")))
    command = [
        sys.executable,
        "-m",
        "orchestrator",
        "--server",
        fake.url,
        "--api-key",
        KEY,
        "submit",
        "--wait",
    ]
    with subprocess.Popen(
        [*command, "--prompt", "p"], stderr=subprocess.PIPE, text=True
    ) as process:
        while len(fake.asked) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith(f"detached; the job keeps running\n  orchestrator jobs watch {JOB}\n")


def test_a_wait_that_times_out_shows_the_last_error(fake: Fake) -> None:
    refused = entry("submit", outcome="connection_refused", reason="Connect call failed")
    again = entry("submit", outcome="begun")
    fake.script("POST /v1/jobs", (202, job("queued")))
    fake.script(f"GET /v1/jobs/{JOB}", (200, job("queued")))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page(refused, again)))
    ran = run("--server", fake.url, "submit", "--prompt", "p", "--wait", "0.1")
    assert ran.code == 7
    assert "submit: connection_refused (Connect call failed)" in ran.err


def test_waiting_goes_on_through_an_outage_of_the_server(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    away = {"title": "Unavailable", "code": "unavailable"}
    fake.script(f"GET /v1/jobs/{JOB}", (503, away), (503, away), (200, job()))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page()))
    ran = run("--server", fake.url, "submit", "--prompt", "p", "--wait")
    assert ran.code == 0
    assert ran.err.count("trying again until it answers") == 1


@pytest.mark.parametrize("path", [".", "nowhere/v.mp4"])
def test_nothing_is_submitted_if_the_output_file_cannot_be_created(fake: Fake, path: str) -> None:
    assert run("--server", fake.url, "submit", "--prompt", "p", "--output", path).code == 2
    assert fake.asked == []


def test_waiting_with_json_prints_one_document_also_for_a_failed_job(fake: Fake) -> None:
    fake.script("POST /v1/jobs", (202, job("queued")))
    fake.script(f"GET /v1/jobs/{JOB}", (200, job("failed", error={"code": "vendor_failed"})))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page()))
    ran = run("--server", fake.url, "submit", "--prompt", "p", "--wait", "--json")
    assert ran.code == 6
    assert json.loads(ran.out)["status"] == "failed"


def test_a_new_subscribers_secret_is_shown(fake: Fake) -> None:
    fake.script("POST /v1/subscribers", (201, subscriber(secret=SECRET)))
    ran = run(
        "--server",
        fake.url,
        "subscribers",
        "add",
        "https://u",
        "--types",
        "job.failed, job.succeeded",
    )
    assert SECRET in ran.out
    assert fake.asked[0][2] == {"url": "https://u", "types": ["job.failed", "job.succeeded"]}
