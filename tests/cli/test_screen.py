"""What stands on a screen of 80 columns, and what a refusal says of the next step."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.terminal import Terminal, hung
from orchestrator.cli.watch import Board
from tests.harness.command_line import JOB, Fake, faked, isolate, job, page, run

AT = "2026-11-20T10:00:00Z"
ACCOUNT = "an_account_with_a_long_name"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with faked() as found:
        yield found


def drawn(*words: str) -> list[str]:
    """Return the lines a command prints on a terminal of 80 columns."""
    seen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (50, 80))
    command = [sys.executable, "-m", "orchestrator", *words]
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    subprocess.run(
        command, stdout=terminal, stderr=subprocess.DEVNULL, env=environment, check=True, timeout=60
    )
    os.close(terminal)
    screen = b""
    try:
        while part := os.read(seen, 4096):
            screen += part
    except OSError:  # how Linux says that nobody writes to a terminal any more
        os.close(seen)
    return [
        line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in screen.decode().splitlines()
    ]


def test_a_list_of_jobs_fits_and_says_when_and_how_they_stand(fake: Fake) -> None:
    fake.script("GET /v1/jobs", (200, page(job("processing", account=ACCOUNT))))
    head, row = drawn("--server", fake.url, "jobs", "ls")
    assert head.split() == ["ID", "STATUS", "ACCOUNT", "CREATED"]
    assert len(row) <= 80
    assert row.startswith(f"{JOB}  processing  an_account")
    assert row.endswith(job()["created_at"][:19].replace("T", " "))


def test_a_list_of_events_fits(fake: Fake) -> None:
    event = JOB.replace("job_", "evt_")
    told = {
        "id": event,
        "type": "account.push_degraded",
        "timestamp": AT,
        "job": JOB,
        "source": "lookup",
    }
    fake.script("GET /v1/events", (200, page(told)))
    _, row = drawn("--server", fake.url, "events", "ls")
    assert len(row) <= 80
    assert row.split() == [event, "2026-11-20", "10:00:00", "account.push_degra…", "lookup"]


def test_settings_have_no_room_for_where_they_were_written() -> None:
    head, *rows = drawn("config", "show")
    assert head.split() == ["SETTING", "VALUE"]
    assert max(map(len, rows)) <= 80
    assert run("config", "show").out.split()[:3] == ["SETTING", "VALUE", "FROM"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("AT  what happened", ["AT  what happened"]),
        (f"AT  event={JOB}, type=job.succeeded", [f"AT  event={JOB},", "    type=job.succeeded"]),
        ("AT  " + "u" * 60, ["AT", "    " + "u" * 60]),
    ],
)
def test_words_that_do_not_fit_stand_below_their_column_and_none_is_broken(
    line: str, expected: list[str]
) -> None:
    assert hung(line, 4, 44).splitlines() == expected


def test_a_watched_job_keeps_its_id_and_status_and_shows_where_the_rest_is_cut() -> None:
    board = Board(Terminal())
    board.jobs[JOB] = job("succeeded", account=ACCOUNT, resolved_by="poll", finished_at=AT)
    screen = io.StringIO()
    Console(file=screen, width=80).print(board.table())
    _, row = screen.getvalue().splitlines()
    assert len(row) <= 80
    assert row.startswith(f"{JOB}  succeeded ")
    assert row.rstrip().endswith("…")


@pytest.mark.parametrize("group", ["accounts", "subscribers", "events"])
def test_what_is_not_there_comes_with_the_list_it_is_not_in(fake: Fake, group: str) -> None:
    ids = {"accounts": "nope", "subscribers": f"sub{JOB[3:]}", "events": f"evt{JOB[3:]}"}
    ran = run("--server", fake.url, group, "show", ids[group])
    assert ran.code == 3
    assert f"`orchestrator {group} ls`" in ran.err


def test_a_fault_that_is_the_whole_refusal_is_said_once(fake: Fake) -> None:
    fault = {"pointer": "/input/size", "message": "the vendor has no such field"}
    fake.script(
        "POST /v1/jobs", (422, {"title": "No", "detail": fault["message"], "errors": [fault]})
    )
    err = run("--server", fake.url, "submit", "--prompt", "a cat").err
    assert "No (422): /input/size: the vendor has no such field" in err
    assert err.count(fault["message"]) == 1
