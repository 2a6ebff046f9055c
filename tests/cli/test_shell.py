"""What shells and terminals get of the command line: completion, and no colour where none is wanted."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import orchestrator.cli
from orchestrator.cli.completers import ACCOUNTS, JOBS
from tests.harness.command_line import JOB, KEY, Fake, faked, isolate, job, page, run


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with faked() as found:
        yield found


def completed(fake: Fake, *words: str) -> list[str]:
    """Return what bash is offered for the last of these words."""
    line = ["orchestrator", *words]
    asked = {
        "_ORCHESTRATOR_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(words)),
    }
    environment = {
        **os.environ,
        **asked,
        "ORCHESTRATOR_SERVER": fake.url,
        "ORCHESTRATOR_API_KEY": KEY,
    }
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


def test_ids_are_completed_from_the_server(fake: Fake) -> None:
    fake.script("GET /v1/jobs", (200, page(job(), job(id="job_0other"))))
    assert completed(fake, "jobs", "show", "job_01m") == [JOB]
    assert fake.asked[0][1]["authorization"] == f"Bearer {KEY}"


def test_words_that_are_known_here_are_completed_without_a_server(fake: Fake) -> None:
    assert completed(fake, "jobs", "ls", "--status", "fa") == ["failed"]
    assert completed(fake, "deliveries", "ls", "--status", "de") == ["delivered", "dead"]


def test_completion_fails_without_a_word(fake: Fake) -> None:
    assert completed(fake, "accounts", "show", "ma") == []


def test_completion_does_not_wait_for_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        ctx = typer.Context(typer.main.get_command(orchestrator.cli.app))
        ctx.params = {"server": url, "api_key": KEY}
        began = time.monotonic()
        assert (JOBS(ctx, ""), ACCOUNTS(ctx, "")) == ([], [])
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_for_this_program(shell: str) -> None:
    ran = run("completion", "show", shell)
    assert ran.code == 0
    assert f"_ORCHESTRATOR_COMPLETE=complete_{shell}" in ran.out


def seen(monkeypatch: pytest.MonkeyPatch, fake: Fake, *words: str) -> str:
    """Return what a terminal is sent by a command that fails."""
    screen, terminal = pty.openpty()
    line = [sys.executable, "-m", "orchestrator", "--server", fake.url, "--api-key", KEY, *words]
    with subprocess.Popen(line, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        process.wait(timeout=60)
    said = os.read(screen, 65536).decode()
    os.close(screen)
    return said


@pytest.mark.parametrize(
    ("variables", "words", "coloured"),
    [
        ({"TERM": "xterm"}, (), True),
        ({"TERM": "dumb"}, (), False),
        ({"TERM": "xterm"}, ("--no-color",), False),
    ],
)
def test_colours_are_for_terminals_that_have_and_people_who_want_them(
    monkeypatch: pytest.MonkeyPatch,
    fake: Fake,
    variables: dict[str, str],
    words: tuple[str, ...],
    coloured: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = seen(monkeypatch, fake, "jobs", "ls", *words)
    assert "error: Not found (404)" in said
    assert ("\x1b[1;31m" in said) is coloured


def test_an_exit_code_is_raised_never_returned() -> None:
    """A returned `typer.Exit` is thrown away, and every failure is a success."""
    sources = [path.read_text() for path in Path(orchestrator.cli.__file__).parent.rglob("*.py")]
    assert not [source for source in sources if "return typer.Exit" in source]
