"""Output on a terminal of 80 columns, and hints in refusals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchestrator.cli.table_layout import hung, laid_out
from orchestrator.cli.terminal import Terminal
from orchestrator.cli.watch import Board
from orchestrator.schemas import Job
from tests.harness.command_line import EVENT, JOB, Fake, event, job, on_terminal, page, run

ACCOUNT = "an_account_with_a_long_name"


def drawn(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return the lines that a command prints on a terminal of 80 columns."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    code, screen = on_terminal(monkeypatch, *words, stderr=False)
    assert code == 0
    return screen.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


def test_a_list_of_jobs_fits_with_status_and_time(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.script("GET /v1/jobs", (200, page(job("processing", account=ACCOUNT))))
    head, row = drawn(monkeypatch, "--server", fake.url, "jobs", "ls")
    assert head.split() == ["ID", "STATUS", "ACCOUNT", "CREATED"]
    assert len(row) <= 80
    assert row.startswith(f"{JOB}  processing  an_account")
    assert row.endswith(job()["created_at"][:19].replace("T", " "))


def test_a_list_of_events_fits(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    degraded = event(type="account.push_degraded", job=JOB, source="lookup")
    fake.script("GET /v1/events", (200, page(degraded)))
    _, row = drawn(monkeypatch, "--server", fake.url, "events", "ls")
    assert len(row) <= 80
    assert row.split() == [EVENT, "2026-11-20", "10:00:00", "account.push_degra…", "lookup"]


def test_settings_on_a_narrow_terminal_have_no_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", f"postgresql://{'h' * 36}/db")
    head, *rows = drawn(monkeypatch, "config", "show")
    assert head.split() == ["SETTING", "VALUE"]
    assert max(map(len, rows)) <= 80
    assert run("config", "show").out.split()[:3] == ["SETTING", "VALUE", "FROM"]


@pytest.mark.parametrize(
    ("room", "shown", "widths"),
    [
        (100, [0, 1, 2, 3], [30, 8, 10, 20]),
        (74, [0, 1, 2, 3], [30, 8, 10, 20]),
        # The third fits where the fourth does not.
        (73, [0, 1, 2], [30, 8, 10]),
        (45, [0, 1], [30, 8]),
        (20, [0, 1], [30, 8]),
    ],
)
def test_a_terminal_shows_the_columns_that_fit(
    room: int, shown: list[int], widths: list[int]
) -> None:
    columns = [[JOB[:30]], ["c" * 8], ["d" * 10], ["e" * 20]]
    layout = laid_out(columns, room, first=[0, 1])
    assert (layout.shown, layout.widths) == (shown, widths)


def test_hidden_columns_are_counted_and_named(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.script("GET /v1/jobs", (200, page(job("processing", account=ACCOUNT))))
    monkeypatch.setenv("NO_COLOR", "1")
    _, screen = on_terminal(monkeypatch, "--server", fake.url, "jobs", "ls")
    note = screen.splitlines()[-1]
    assert note.startswith("3 columns hidden: model, capability, resolved by; a wider terminal")
    assert "hidden" not in run("--server", fake.url, "jobs", "ls").err


def test_failed_jobs_are_listed_with_the_reason_in_the_vendor_s_words(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"code": "vendor_failed", "vendor_code": 1301, "vendor_message": "a face in the image"}
    fake.script("GET /v1/jobs", (200, page(job("failed", error=error))))
    head, *rows = drawn(monkeypatch, "--server", fake.url, "jobs", "ls", "--status", "failed")
    assert head.split()[-1] == "REASON"
    assert rows[0].endswith("vendor_failed: 1301: a face in")
    assert rows[1].strip() == "the image"
    assert rows[0].index("vendor_failed") == rows[1].index("the image")
    assert max(map(len, rows)) <= 80


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("AT  what happened", ["AT  what happened"]),
        (f"AT  event={JOB}, type=job.succeeded", [f"AT  event={JOB},", "    type=job.succeeded"]),
        ("AT  " + "u" * 60, ["AT", "    " + "u" * 60]),
    ],
)
def test_words_that_do_not_fit_wrap_below_their_column(line: str, expected: list[str]) -> None:
    assert hung(line, 4, 44).splitlines() == expected


def test_a_watched_job_keeps_id_and_status_and_marks_cut_text() -> None:
    board = Board(Terminal())
    described = job("succeeded", account=ACCOUNT, resolved_by="poll")
    board.jobs[JOB] = Job.model_validate(described)
    screen = io.StringIO()
    Console(file=screen, width=80).print(board.table())
    _, row = screen.getvalue().splitlines()
    assert len(row) <= 80
    assert row.startswith(f"{JOB}  succeeded ")
    assert row.rstrip().endswith("…")


@pytest.mark.parametrize("group", ["accounts", "subscribers", "events"])
def test_a_missing_resource_hints_at_its_list(fake: Fake, group: str) -> None:
    ids = {"accounts": "nope", "subscribers": f"sub{JOB[3:]}", "events": f"evt{JOB[3:]}"}
    ran = run("--server", fake.url, group, "show", ids[group])
    assert ran.code == 3
    assert f"`orchestrator {group} ls`" in ran.err


def test_a_fault_that_is_the_detail_is_printed_once(fake: Fake) -> None:
    fault = {"pointer": "/input/size", "message": "the vendor has no such field"}
    fake.script(
        "POST /v1/jobs",
        (
            422,
            {"code": "unsupported", "title": "No", "detail": fault["message"], "errors": [fault]},
        ),
    )
    err = run("--server", fake.url, "submit", "--prompt", "a cat").err
    assert "No: /input/size: the vendor has no such field" in err
    assert err.count(fault["message"]) == 1
