"""The command line and the server: what is asked, what is printed, and the exit code scripts rely on."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from orchestrator.cli import app
from orchestrator.cli.terminal import clean, fitted
from tests.harness.command_line import JOB, KEY, Fake, faked, isolate, job, page, run

AT = "2026-11-20 10:00:00"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with faked() as found:
        yield found


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(
    "path",
    [path for path, _ in commands(typer.main.get_command(app))],
    ids=lambda path: " ".join(path),
)
def test_every_command_has_help_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help")
    assert shown.code == 0
    words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", shown.out).split())
    assert re.search(rf"Example: .*\borchestrator {' '.join(path)}\b", words)


@pytest.mark.parametrize(
    ("status", "problem", "code"),
    [
        (401, {"title": "Not authenticated"}, 4),
        (403, {"title": "Not allowed"}, 4),
        (404, {"title": "Not found"}, 3),
        (409, {"title": "Conflict"}, 5),
        (422, {"title": "Not the same", "code": "idempotency_key_reused"}, 5),
        (422, {"title": "Not valid", "code": "validation_failed"}, 1),
        (500, {"title": "Ours"}, 1),
        (503, None, 1),
    ],
)
def test_the_exit_code_says_what_kind_of_no_it_was(
    fake: Fake, status: int, problem: Any, code: int
) -> None:
    fake.script("GET /v1/accounts", (status, problem))
    ran = run("--server", fake.url, "accounts", "ls")
    assert ran.code == code
    assert ran.out == ""
    assert f"({status})" in ran.err


def test_a_server_that_is_not_there_is_exit_8_and_a_hint() -> None:
    ran = run("accounts", "ls", "--server", "http://127.0.0.1:1")
    assert ran.code == 8
    assert "orchestrator serve" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("jobs", "ls", "--nope"),
        ("jobs", "ls", "--since", "yesterday"),
        ("submit", "--set", "duration"),
        ("submit", "--input", "{"),
        ("submit", "--input", "@nowhere.json"),
        ("submit", "--input", "[]"),
        ("submit", "--wait", "soon"),
        ("nope",),
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_2(words: tuple[str, ...]) -> None:
    assert run("--server", "http://127.0.0.1:1", *words).code == 2


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--deadline", ("submit", "--deadline", "soon")),
        ("--since", ("jobs", "ls", "--since", "soon")),
        ("--expires", ("keys", "create", "--name", "ci", "--expires", "soon")),
    ],
)
def test_a_time_that_is_none_is_said_with_its_option(option: str, words: tuple[str, ...]) -> None:
    ran = run("--server", "http://127.0.0.1:1", *words)
    assert ran.code == 2
    assert f"Invalid value for {option}" in ran.err


def test_the_top_command_knows_its_version() -> None:
    assert re.fullmatch(r"orchestrator \d+\.\d+\.\d+\n", run("--version").out)


def test_who_is_not_let_in_learns_of_every_way(fake: Fake) -> None:
    fake.script("GET /v1/accounts", (401, {"title": "Not authenticated"}))
    err = run("--server", fake.url, "accounts", "ls").err
    assert all(way in err for way in ("--api-key", "keys create", "orchestrator.toml", "--config"))


@pytest.mark.parametrize(
    ("widths", "fixed", "room", "expected"),
    [
        ([30, 9, 40], {0}, 83, [30, 9, 40]),
        ([30, 9, 40], {0}, 70, [30, 9, 27]),
        ([30, 20, 40], {0}, 60, [30, 13, 13]),
        ([30, 6, 30], {0, 2}, 40, [30, 6, 30]),
    ],
)
def test_long_words_give_way_to_a_narrow_terminal_and_ids_never(
    widths: list[int], fixed: set[int], room: int, expected: list[int]
) -> None:
    assert fitted(widths, fixed, room) == expected


def test_a_table_on_a_terminal_keeps_its_ids_whole_and_shortens_the_rest(tmp_path: Path) -> None:
    script = (
        "from orchestrator.cli.terminal import Terminal; "
        f"Terminal().table(['id', 'url', 'at', 'job'], [['sub_1', 'https://' + 'u' * 200, '{AT}', '{JOB}']])"
    )
    seen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    subprocess.run([sys.executable, "-c", script], stdout=terminal, check=True, timeout=60)
    os.close(terminal)
    head, row = os.read(seen, 4096).decode().splitlines()
    os.close(seen)
    assert "ID     URL" in head
    assert row.endswith(f"u…  {AT}  {JOB}")
    assert len(row) == 80


def test_faults_of_a_request_are_listed_with_their_pointers(fake: Fake) -> None:
    faults = [
        {"pointer": "/model", "message": "Field required"},
        {"pointer": "/input/size", "message": "cannot"},
    ]
    fake.script(
        "POST /v1/jobs",
        (422, {"title": "Request is not valid", "errors": faults, "request_id": "req_1"}),
    )
    ran = run("--server", fake.url, "submit", "--prompt", "a cat")
    assert "/model: Field required" in ran.err
    assert "--model takes the vendor's own name" in ran.err
    assert "/input/size: cannot" in ran.err
    assert "req_1" in ran.err


def test_what_a_server_says_is_printed_as_it_is_and_drives_no_terminal(fake: Fake) -> None:
    """Markup that closes nothing has crashed another tool's error printer; escapes would repaint the screen."""
    fake.script("GET /v1/accounts", (400, {"title": "[/bold] \x1b[2J[red]"}))
    ran = run("--server", fake.url, "accounts", "ls")
    assert "[/bold] \N{REPLACEMENT CHARACTER}[2J[red]" in ran.err
    assert (
        clean("a\x1b]0;b\x07\u202e\n")
        == "a\N{REPLACEMENT CHARACTER}]0;b" + "\N{REPLACEMENT CHARACTER}" * 2 + "\n"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "ID                              STATUS"),
        (("-q",), f"{JOB}\n"),
        (("--json",), '{\n  "object": "list",'),
    ],
)
def test_a_list_is_a_table_or_ids_or_one_json_document(
    fake: Fake, options: tuple[str, ...], expected: str
) -> None:
    fake.script("GET /v1/jobs", (200, page(job(), more=True)))
    ran = run("--server", fake.url, "jobs", "ls", "--limit", "1", *options)
    assert ran.out.startswith(expected)
    if "--json" in options:
        assert json.loads(ran.out)["data"][0]["id"] == JOB
    elif not options:
        assert f"--after {JOB}" in ran.err


def test_a_list_without_anything_says_so_to_people_alone(fake: Fake) -> None:
    fake.script("GET /v1/jobs", (200, page()))
    ran = run("--server", fake.url, "jobs", "ls")
    assert (ran.code, ran.err) == (0, "there are none\n")
    assert (
        run("--server", fake.url, "jobs", "ls", "--json").err
        == run("--server", fake.url, "jobs", "ls", "-q").err
        == ""
    )


def test_short_pages_are_read_on_from(fake: Fake) -> None:
    """With several filters a page may hold fewer than there are, or none."""
    empty = {"object": "list", "data": [], "has_more": True, "next_cursor": "job_2"}
    ids = [JOB[:-1] + last for last in "abc"]
    first = {**page(job(id=ids[0])), "has_more": True, "next_cursor": "job_1"}
    rest = page(job(id=ids[1]), job(id=ids[2]), more=True)
    fake.script("GET /v1/jobs", (200, first), (200, empty), (200, rest))
    ran = run("--server", fake.url, "jobs", "ls", "--model", "m", "--limit", "3", "-q")
    assert ran.out.split() == ids
    asked = [one.partition("?")[2] for one, *_ in fake.asked]
    assert asked == [
        "model=m&limit=3",
        "model=m&after=job_1&limit=2",
        "model=m&after=job_2&limit=2",
    ]


def test_deliveries_are_shown_by_what_happened_to_which_job(fake: Fake) -> None:
    told = {
        "id": "dlv_1",
        "status": "dead",
        "event": "evt_1",
        "event_type": "job.failed",
        "job": JOB,
        "subscriber": "s",
    }
    fake.script("GET /v1/deliveries", (200, page(told)))
    ran = run("--server", fake.url, "deliveries", "ls", "--status", "dead")
    assert ran.out.splitlines()[1].split()[:4] == ["dlv_1", "dead", "job.failed", JOB]
    assert (
        json.loads(run("--server", fake.url, "deliveries", "ls", "--json").out)["data"][0]["event"]
        == "evt_1"
    )
    fake.script("GET /v1/deliveries", (200, page({**told, "id": "dlv_0"}, more=True)))
    since = json.loads(run("--server", fake.url, "deliveries", "ls", "--since", "1h", "--json").out)
    assert (since["data"], since["has_more"]) == ([], False), "that is from long ago"


def test_filters_reach_the_server(fake: Fake) -> None:
    fake.script("GET /v1/jobs", (200, page()))
    run(
        "--server",
        fake.url,
        "jobs",
        "ls",
        "--status",
        "failed",
        "--external-id",
        "a b",
        "--since",
        "2h",
        "--limit",
        "7",
    )
    called = fake.asked[0][0]
    assert "status=failed" in called
    assert "external_task_id=a+b" in called or "external_task_id=a%20b" in called
    assert "limit=7" in called
    assert re.search(r"created_after=20\d\d-", called)
    assert "resolved_by" not in called


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [([JOB], 0, JOB), ([], 3, "no job's id begins"), ([JOB, JOB[:-1] + "0"], 2, "several")],
)
def test_the_unique_beginning_of_an_id_is_enough(
    fake: Fake, found: list[str], code: int, words: str
) -> None:
    fake.script("GET /v1/jobs", (200, page(*(job(id=one) for one in found))))
    ran = run("--server", fake.url, "jobs", "show", JOB[4:12])
    assert ran.code == code
    assert words in ran.out + ran.err
    assert f"after={JOB[:12].ljust(30, 'z')}" in fake.asked[0][0]


def authorization(fake: Fake, *words: str) -> str:
    fake.script("GET /v1/accounts", (200, page()))
    assert run(*words, "accounts", "ls").code == 0
    return fake.asked[-1][1].get("authorization", "")


def test_the_nearest_credential_wins(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    port = fake.url.rpartition(":")[2]
    monkeypatch.setenv("ORCHESTRATOR_PORT", port)
    assert authorization(fake) == ""
    Path("orchestrator.db.keys").write_text("a secret key\n")
    assert authorization(fake).startswith("Bearer orc_pass.")
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", KEY)
    assert authorization(fake) == f"Bearer {KEY}"
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY + "1")
    assert authorization(fake) == f"Bearer {KEY}1"
    assert authorization(fake, "--api-key", KEY + "2") == f"Bearer {KEY}2"


def test_what_this_machine_knows_is_not_sent_to_another(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.0.0.0 reaches this machine without being its loopback: as good as a stranger."""
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", KEY)
    assert authorization(fake, "--server", fake.url.replace("127.0.0.1", "0.0.0.0")) == ""
    assert authorization(fake, "--server", fake.url) == f"Bearer {KEY}"


def test_a_server_and_a_key_need_no_configuration(fake: Fake) -> None:
    Path("orchestrator.toml").write_text("prt = 1\n")
    assert authorization(fake, "--server", fake.url, "--api-key", KEY) == f"Bearer {KEY}"
    ran = run("accounts", "ls")
    assert ran.code == 1
    assert "did you mean port?" in ran.err
    assert "`orchestrator config check` tries again" in ran.err
