"""Shell completion, and colours only where they are wanted."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import typer

import orchestrator.cli
from orchestrator.cli.completers import ACCOUNTS, JOBS
from tests.harness.command_line import JOB, KEY, Fake, job, on_terminal, page, run


def completed(fake: Fake, *words: str) -> list[str]:
    """Return the completions that bash gets for the last of these words."""
    env = {
        "_ORCHESTRATOR_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["orchestrator", *words]),
        "COMP_CWORD": str(len(words)),
        "ORCHESTRATOR_SERVER": fake.url,
        "ORCHESTRATOR_API_KEY": KEY,
    }
    ran = run(env=env)
    assert ran.err == ""
    return ran.out.split()


def test_ids_are_completed_from_the_server(fake: Fake) -> None:
    fake.script("GET /v1/jobs", (200, page(job(), job(id="job_0other"))))
    assert completed(fake, "jobs", "show", "job_01m") == [JOB]
    assert fake.asked[0][1]["authorization"] == f"Bearer {KEY}"


def test_fixed_words_are_completed_without_a_server(fake: Fake) -> None:
    assert completed(fake, "jobs", "ls", "--status", "fa") == ["failed"]
    assert completed(fake, "deliveries", "ls", "--status", "de") == ["delivered", "dead"]


def test_completion_fails_silently(fake: Fake) -> None:
    assert completed(fake, "accounts", "show", "ma") == []


def test_completion_does_not_wait_for_a_silent_server() -> None:
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


@pytest.mark.parametrize(
    ("variables", "words", "coloured"),
    [
        ({"TERM": "xterm"}, (), True),
        ({"TERM": "dumb"}, (), False),
        ({"TERM": "xterm"}, ("--no-color",), False),
    ],
)
def test_colours_need_a_capable_terminal_and_no_objection(
    monkeypatch: pytest.MonkeyPatch,
    fake: Fake,
    variables: dict[str, str],
    words: tuple[str, ...],
    coloured: bool,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    line = ("--server", fake.url, "--api-key", KEY, "jobs", "ls", *words)
    _, screen = on_terminal(monkeypatch, *line)
    assert "error: Not found (404)" in screen
    assert ("\x1b[1;31m" in screen) is coloured


def test_an_exit_code_is_raised_never_returned() -> None:
    """typer drops a returned `typer.Exit`: every failure would exit 0."""
    sources = [path.read_text() for path in Path(orchestrator.cli.__file__).parent.rglob("*.py")]
    assert not [source for source in sources if "return typer.Exit" in source]
