"""Servers that are slow, failing, or not ours: a clear error, and no work done twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.terminal import Terminal
from tests.harness.command_line import (
    DELIVERY,
    EVENT,
    JOB,
    KEY,
    SUBSCRIBER,
    Fake,
    Ran,
    api_key,
    delivery,
    entry,
    event,
    file,
    job,
    page,
    run,
    subscriber,
)

PLACE = "evt_01m7xg8zneew6v9wgm06s8479n"
#: The answer of a log without new events.
NOTHING = (200, page() | {"next_cursor": PLACE})
AWAY = (503, {"title": "Temporarily unavailable", "code": "unavailable"})
REFUSED = (401, {"title": "Not authenticated", "code": "unauthenticated"})


def asked(fake: Fake, *words: str) -> Ran:
    return run("--server", fake.url, "--api-key", KEY, *words)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "ok",
        5,
        {"data": 5, "has_more": False},
        {"data": ["x"], "has_more": False},
        {"data": [{}], "has_more": False},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize(
    "words", [("jobs", "ls"), ("jobs", "watch", "--all"), ("accounts", "check"), ("listen",)]
)
def test_an_answer_that_does_not_fit_is_an_error(
    fake: Fake, words: tuple[str, ...], document: Any
) -> None:
    """A missing field is a one-line error, and no cursor is stored."""
    for call in ("GET /v1/jobs", "GET /v1/accounts", "GET /v1/events"):
        fake.script(call, (200, document))
    ran = asked(fake, *words)
    assert ran.code == 1
    assert "is this the right --server" in ran.err
    assert not [*Path("state").rglob("*.cursor")]


@pytest.mark.parametrize("server", ["nowhere", "http://[", "ftp://x"])
def test_an_invalid_server_url_is_a_usage_error(server: str) -> None:
    ran = run("--server", server, "--api-key", KEY, "jobs", "ls")
    assert ran.code == 2
    assert "must be a URL" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("subscribers", "add", "https://a.example/h", "--retry-deadline", "nan"),
        ("subscribers", "add", "https://a.example/h", "--rate-limit", "inf"),
        ("submit", "--account", "main", "--model", "m", "--prompt", "x", "--set", "cfg=NaN"),
        ("jobs", "ls", "--account", "\udcff"),
    ],
)
def test_what_cannot_be_encoded_is_a_usage_error(fake: Fake, words: tuple[str, ...]) -> None:
    ran = asked(fake, *words)
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err


def test_a_password_in_the_servers_url_is_not_printed() -> None:
    ran = run("--server", "http://me:hunter2@127.0.0.1:1", "--api-key", KEY, "jobs", "ls")
    assert ran.code == 8
    assert "hunter2" not in ran.err


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 6)])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_final_job_is_reported_without_its_history(
    fake: Fake, status: str, code: int, options: tuple[str, ...]
) -> None:
    """The history is for people: without it, exit code and document are the same."""
    fake.script("POST /v1/jobs", (202, job(status, version=3)))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", AWAY)
    ran = asked(fake, "submit", "--prompt", "a cat", "--wait", *options)
    assert ran.code == code
    assert not options or json.loads(ran.out)["status"] == status


@pytest.mark.parametrize(
    ("words", "call", "hint"),
    [
        (
            ("submit", "--prompt", "a cat"),
            "POST /v1/jobs",
            "--idempotency-key {key} makes no second job",
        ),
        (
            ("jobs", "retry", JOB),
            f"POST /v1/jobs/{JOB}/retry",
            "`orchestrator jobs ls` shows a new job",
        ),
    ],
)
def test_a_request_that_costs_money_is_retried_with_one_idempotency_key(
    fake: Fake, words: tuple[str, ...], call: str, hint: str
) -> None:
    fake.script(f"GET /v1/jobs/{JOB}", (200, job("failed")))
    fake.script(call, (504, None))
    ran = asked(fake, *words)
    keys = [headers["idempotency-key"] for which, headers, _ in fake.asked if which == call]
    assert len(keys) == 3
    assert len({*keys}) == 1
    assert hint.format(key=keys[0]) in " ".join(ran.err.split())
    fake.script(call, (504, None), (200, job("queued")))
    assert asked(fake, *words).code == 0


def test_one_outage_in_pieces_is_reported_once(fake: Fake) -> None:
    """Processes behind one address restart one after the other; each cut ends with an answer."""
    fake.script("GET /v1/events", NOTHING, NOTHING, AWAY, NOTHING, AWAY, AWAY, NOTHING, REFUSED)
    ran = asked(fake, "listen")
    assert ran.code == 4
    assert ran.err.count("trying again until it answers") == ran.err.count("reconnected") == 1


def test_a_server_without_long_polls_is_polled_with_a_pause(fake: Fake) -> None:
    fake.script("GET /v1/events", NOTHING, NOTHING, NOTHING, NOTHING, REFUSED)
    began = time.monotonic()
    assert asked(fake, "listen").code == 4
    assert time.monotonic() - began >= 3 * 0.25


def test_a_stream_of_documents_ends_with_the_error_on_one_line(fake: Fake) -> None:
    fake.script("GET /v1/events", NOTHING, REFUSED)
    ran = asked(fake, "listen", "--json")
    (line,) = ran.out.splitlines()
    assert json.loads(line)["code"] == "unauthenticated"


def test_a_corrupt_cursor_or_secret_of_listen_is_an_error(fake: Fake) -> None:
    """A truncated cursor or secret is an error that names its file."""
    words = ("listen", "--forward-to", "localhost:3")
    assert asked(fake, *words, "--print-secret").out.startswith("whsec_")
    (kept,) = Path("state").rglob("*.secret")
    kept.write_text("whs")
    ran = asked(fake, *words)
    assert ran.code == 1
    assert f"{kept.name} holds no secret" in "".join(ran.err.splitlines())
    kept.unlink()
    assert asked(fake, *words, "--print-secret").out.startswith("whsec_")
    kept.with_suffix(".cursor").write_text(PLACE[:9])
    ran = asked(fake, *words)
    assert ran.code == 1
    assert "holds no event's id" in ran.err


def test_an_unusable_state_folder_is_an_error(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("occupied").write_text("a file")
    monkeypatch.setenv("XDG_STATE_HOME", "occupied")
    ran = asked(fake, "listen")
    assert ran.code == 1
    assert "XDG_STATE_HOME names another folder" in ran.err


#: Texts of callers and vendors that try to end a line, in every way that a terminal or pager knows.
FORGED = "x" + "".join(f"{end}FORGED succeeded" for end in ("\n", "\r\n", "\r", "\v", "\f"))
FORGED += "".join(f"{end}FORGED" for end in ("\x1c", "\x85", "\u2028", "\u2029", "\t\x1b[2K\u202e"))


def scripted(fake: Fake) -> None:
    """Script answers in which every free text is `FORGED`."""
    error = {"code": FORGED, "message": FORGED, "vendor_code": FORGED, "vendor_message": FORGED}
    forged = dict.fromkeys(("model", "vendor", "vendor_status", "external_task_id"), FORGED)
    output = {"videos": [file(FORGED), file("https://cdn.example/v.mp4")], "images": []}
    one = job("failed", error=error, output=output, **forged)
    entries = page(entry("poll", reason=FORGED, outcome=FORGED, **{FORGED: FORGED}))
    tried = delivery("dead", last_error=FORGED, last_status=None, event_type=FORGED)
    for call, answer in {
        "GET /v1/jobs": page(one),
        f"GET /v1/jobs/{JOB}": one,
        f"GET /v1/jobs/{JOB}/timeline": entries,
        "POST /v1/jobs": one,
        f"GET /v1/subscribers/{SUBSCRIBER}": subscriber(
            description=FORGED, url=FORGED, disabled_reason=FORGED, options={FORGED: FORGED}
        ),
        "GET /v1/subscribers": page(subscriber(description=FORGED, url=FORGED)),
        f"GET /v1/events/{EVENT}": event({"status": FORGED, "url": FORGED}, type=FORGED),
        "GET /v1/events": page(event({"name": FORGED}, type=FORGED, job=None))
        | {"next_cursor": EVENT},
        "GET /v1/deliveries": page(tried),
        f"GET /v1/deliveries/{DELIVERY}": tried,
        "GET /v1/keys": page(api_key(name=FORGED)),
    }.items():
        fake.script(call, (200, answer))
    problem = {"title": FORGED, "detail": FORGED, "code": FORGED, "job_id": FORGED}
    fault = {"pointer": f"/{FORGED}", "code": FORGED, "message": FORGED}
    fake.script("GET /v1/accounts", (422, problem | {"errors": [fault, fault]}))


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "ls"),
        ("jobs", "ls", "-q"),
        ("jobs", "show", JOB),
        ("jobs", "show", JOB, "--timeline"),
        ("jobs", "watch", JOB),
        ("submit", "--prompt", "a cat", "--wait"),
        ("subscribers", "ls"),
        ("subscribers", "show", SUBSCRIBER),
        ("events", "ls"),
        ("events", "show", EVENT),
        ("deliveries", "ls"),
        ("deliveries", "show", DELIVERY),
        ("keys", "ls"),
        ("accounts", "ls"),
    ],
    ids=" ".join,
)
def test_a_text_from_outside_never_begins_a_line(fake: Fake, words: tuple[str, ...]) -> None:
    """Its further lines are indented and marked: no text can look like a field or a row."""
    scripted(fake)
    ran = asked(fake, *words)
    printed = (ran.out + ran.err).split("\n")
    assert "FORGED" in ran.out + ran.err or "-q" in words
    assert all(line.isprintable() for line in printed)
    for line in printed:
        if line.lstrip(" |").startswith("FORGED"):
            assert re.match(r" {2,}\| FORGED", line), line


def test_documents_keep_the_texts_from_outside(fake: Fake) -> None:
    scripted(fake)
    assert json.loads(asked(fake, "jobs", "show", JOB, "--json").out)["model"] == FORGED


def test_no_output_contains_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """U+009B acts as ESC [, and JSON need not escape it; half a surrogate pair is unprintable."""
    words = "a\x1b[2J\x9b2J\u202e\ud800\U0001f600é"
    for terminal in (Terminal(json=True), Terminal(quiet=True)):
        terminal.record({"id": words}, {})
        printed = capsys.readouterr().out
        assert printed.replace("\n", "").isprintable()
        assert "\U0001f600é" in printed
        assert not terminal.json or json.loads(printed) == {"id": words}


def test_ctrl_c_at_a_question_exits_130() -> None:
    def ask(session: Session) -> None:
        raise typer.Abort

    app = typer.Typer()
    command(app, "ask", "ask")(ask)
    assert typer.testing.CliRunner().invoke(app, []).exit_code == 130


def test_a_command_starts_without_modules_it_does_not_need() -> None:
    script = "import sys; from orchestrator.cli import main; sys.argv[1:] = ['version']; main()"
    shown = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); "
    found = subprocess.run(
        [sys.executable, "-c", shown + script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {*found.stdout.split()}
    assert "orchestrator.cli" in loaded
    assert not loaded & {
        "httpx",
        "orchestrator.foundation.settings",
        "orchestrator.client",
        "orchestrator.cli.jobs",
        "sqlalchemy",
    }
