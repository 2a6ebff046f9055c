"""Requests, output and exit codes of the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from orchestrator.cli import app
from orchestrator.cli.table_layout import fitted
from orchestrator.cli.terminal import Terminal, clean
from tests.harness.command_line import DELIVERY, JOB, Fake, delivery, job, on_terminal, page, run

AT = "2026-11-20 10:00:00"


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
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
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
        (422, {"title": "Not valid", "code": "validation_failed"}, 2),
        (500, {"title": "Ours"}, 1),
        (503, None, 1),
    ],
)
def test_a_refusal_sets_the_exit_code(fake: Fake, status: int, problem: Any, code: int) -> None:
    fake.script("GET /v1/accounts", (status, problem))
    ran = run("--server", fake.url, "accounts", "ls")
    assert ran.code == code
    assert ran.out == ""
    # Our own problems have words of their own; of a proxy's answer the status may be all there is.
    assert (f"({status})" in ran.err) is not ("code" in (problem or ()))


def test_an_unreachable_server_exits_8_with_a_hint() -> None:
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
def test_an_invalid_command_line_exits_2(words: tuple[str, ...]) -> None:
    assert run("--server", "http://127.0.0.1:1", *words).code == 2


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--deadline", ("submit", "--deadline", "soon")),
        ("--since", ("jobs", "ls", "--since", "soon")),
        ("--expires", ("keys", "create", "--name", "ci", "--expires", "soon")),
    ],
)
def test_an_invalid_time_is_an_error_with_its_option(option: str, words: tuple[str, ...]) -> None:
    ran = run("--server", "http://127.0.0.1:1", *words)
    assert ran.code == 2
    assert f"Invalid value for {option}" in ran.err


def test_the_program_prints_its_version() -> None:
    assert re.fullmatch(r"orchestrator \d+\.\d+\.\d+\n", run("--version").out)


def test_a_refused_key_lists_every_way_to_authenticate(fake: Fake) -> None:
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
def test_a_narrow_terminal_shortens_long_cells_but_not_ids(
    widths: list[int], fixed: set[int], room: int, expected: list[int]
) -> None:
    assert fitted(widths, fixed, room) == expected


def test_a_table_on_a_terminal_keeps_ids_whole_and_shortens_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def show() -> None:
        row = ["sub_1", "https://" + "u" * 200, AT, JOB]
        Terminal().table(["id", "url", "at", "job"], [row])

    _, screen = on_terminal(monkeypatch, program=show)
    head, row = screen.splitlines()
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


def test_a_servers_message_is_printed_without_markup_and_escapes(fake: Fake) -> None:
    """Unbalanced markup crashes naive error printers; escapes would repaint the screen."""
    fake.script("GET /v1/accounts", (400, {"title": "[/bold] \x1b[2J[red]"}))
    ran = run("--server", fake.url, "accounts", "ls")
    assert "[/bold] \N{REPLACEMENT CHARACTER}[2J[red]" in ran.err
    assert (
        clean("a\x1b]0;b\x07\u202e\n")
        == "a\N{REPLACEMENT CHARACTER}]0;b" + "\N{REPLACEMENT CHARACTER}" * 2
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


def test_json_is_what_the_server_sent_with_fields_this_version_does_not_know(fake: Fake) -> None:
    sent = page(job(progress=40, finished_at=None, renamed={"later": [1]}))
    fake.script("GET /v1/jobs", (200, sent))
    assert json.loads(run("--server", fake.url, "jobs", "ls", "--json").out) == sent


def test_an_empty_list_is_announced_only_for_people(fake: Fake) -> None:
    fake.script("GET /v1/jobs", (200, page()))
    ran = run("--server", fake.url, "jobs", "ls")
    assert (ran.code, ran.err) == (0, "there are none\n")
    assert (
        run("--server", fake.url, "jobs", "ls", "--json").err
        == run("--server", fake.url, "jobs", "ls", "-q").err
        == ""
    )


def test_short_pages_are_filled_from_the_next_ones(fake: Fake) -> None:
    """With several filters a page may hold fewer than there are, or none."""
    empty = {"object": "list", "data": [], "has_more": True, "next_cursor": "job_2"}
    ids = [JOB[:-1] + last for last in "abc"]
    first = {**page(job(id=ids[0])), "has_more": True, "next_cursor": "job_1"}
    rest = page(job(id=ids[1]), job(id=ids[2]), more=True)
    fake.script("GET /v1/jobs", (200, first), (200, empty), (200, rest))
    ran = run("--server", fake.url, "jobs", "ls", "--model", "m", "--limit", "3", "-q")
    assert ran.out.split() == ids
    asked = [call.partition("?")[2] for call, *_ in fake.asked]
    assert asked == [
        "model=m&limit=3",
        "model=m&after=job_1&limit=2",
        "model=m&after=job_2&limit=2",
    ]


def test_deliveries_are_listed_with_answer_host_and_event(fake: Fake) -> None:
    dead = delivery("dead", event_type="job.failed", job=JOB)
    fake.script("GET /v1/deliveries", (200, page(dead)))
    ran = run("--server", fake.url, "deliveries", "ls", "--status", "dead")
    assert ran.out.splitlines()[1].split()[:5] == [DELIVERY, "dead", "200", "my.app", "job.failed"]
    listed = json.loads(run("--server", fake.url, "deliveries", "ls", "--json").out)
    assert listed["data"][0]["event"] == dead["event"]
    fake.script("GET /v1/deliveries", (200, page({**dead, "id": "dlv_0"}, more=True)))
    since = json.loads(run("--server", fake.url, "deliveries", "ls", "--since", "1h", "--json").out)
    assert (since["data"], since["has_more"]) == ([], False), "it is older than an hour"


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
def test_a_unique_prefix_of_an_id_is_enough(
    fake: Fake, found: list[str], code: int, words: str
) -> None:
    fake.script("GET /v1/jobs", (200, page(*(job(id=job_id) for job_id in found))))
    ran = run("--server", fake.url, "jobs", "show", JOB[4:12])
    assert ran.code == code
    assert words in ran.out + ran.err
    assert f"after={JOB[:12].ljust(30, 'z')}" in fake.asked[0][0]
