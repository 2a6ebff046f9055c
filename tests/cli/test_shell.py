"""Shell completion, and colours only where they are wanted."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import typer

import orchestrator.cli
from orchestrator.cli.completers import ACCOUNTS, JOBS
from tests.harness.command_line import (
    DELIVERY,
    EVENT,
    JOB,
    KEY,
    SUBSCRIBER,
    Fake,
    account,
    delivery,
    event,
    job,
    on_terminal,
    page,
    run,
    subscriber,
)
from tests.harness.shells import COMPLETING, completed_in

#: Text that a shell would run, or a terminal obey.
HOSTILE = "\\$(touch ran)`touch ran` ;touch ran\n\"' \x1b]0;title\x07\u202e"


def printed(fake: Fake, shell: str, *words: str) -> str:
    """Return what a shell evaluates to complete the last of these words."""
    line = " ".join(["orchestrator", *words])
    env = {
        "_ORCHESTRATOR_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "ORCHESTRATOR_SERVER": fake.url,
        "ORCHESTRATOR_API_KEY": KEY,
    }
    ran = run(env=env)
    assert ran.err == ""
    return ran.out


def completed(fake: Fake, *words: str) -> list[str]:
    """Return the completions that bash gets for the last of these words."""
    return printed(fake, "bash", *words).split()


def test_ids_are_completed_from_the_server(fake: Fake) -> None:
    other = job(id=JOB.replace("job_01m", "job_01n"))
    fake.script("GET /v1/jobs", (200, page(job(), other)))
    assert completed(fake, "jobs", "show", "job_01m") == [JOB]
    assert fake.asked[0][1]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("chosen", "offered"),
    [((), ["kling-v1", "kling-v1.6"]), (("--account", "second"), ["kling-v1.6"])],
)
def test_models_are_completed_for_the_account(
    fake: Fake, chosen: tuple[str, ...], offered: list[str]
) -> None:
    first = account("main", models={"text2video": ["kling-v1", "other", HOSTILE, "kling-v1;x"]})
    second = account("second", models={"omni_video": ["kling-v1.6"]})
    fake.script("GET /v1/accounts", (200, page(first, second)))
    assert completed(fake, "submit", *chosen, "--model", "kling") == offered


def test_fixed_words_are_completed_without_a_server(fake: Fake) -> None:
    assert completed(fake, "jobs", "ls", "--status", "fa") == ["failed"]
    assert completed(fake, "deliveries", "ls", "--status", "de") == ["delivered", "dead"]


def hostile_lists(fake: Fake) -> None:
    """Script lists in which every text that a caller, a vendor or the server chooses is hostile."""
    rows = {
        "jobs": (job(model=HOSTILE, vendor=HOSTILE), job(HOSTILE), job(id=JOB[:8] + HOSTILE)),
        "events": (event(job(), type=HOSTILE), event(job(), id=HOSTILE)),
        "subscribers": (
            subscriber(url=HOSTILE, description=HOSTILE, status=HOSTILE),
            subscriber(id=HOSTILE),
        ),
        "deliveries": (delivery(event_type=HOSTILE, status=HOSTILE), delivery(id=HOSTILE)),
        "accounts": (
            account("main", vendor=HOSTILE),
            account(HOSTILE),
            account("--config"),
            account(""),
        ),
    }
    for name, those in rows.items():
        fake.script(f"GET /v1/{name}", (200, page(*those)))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("jobs", "show", "job_"), JOB),
        (("events", "show", "evt_"), EVENT),
        (("subscribers", "show", "sub_"), SUBSCRIBER),
        (("deliveries", "show", "dlv_"), DELIVERY),
        (("accounts", "show", "m"), "main"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_offered_ids_and_names_alone(
    fake: Fake, shell: str, words: tuple[str, ...], offered: str
) -> None:
    """A shell evaluates what completion prints, so no other text is among it."""
    hostile_lists(fake)
    got = printed(fake, shell, *words)
    for syntax in ("_arguments '*: :((", "))'"):
        got = got.replace(syntax, "")
    found = [line.replace('"', "").replace(":", " ").split() for line in got.splitlines()]
    assert {word for word, *_ in found} == {offered}
    assert {word for _, *about in found for word in about} <= {"succeeded"}


@pytest.mark.parametrize("shell", COMPLETING)
def test_tab_in_a_real_shell_runs_nothing(fake: Fake, tmp_path: Path, shell: str) -> None:
    hostile_lists(fake)
    server = {"ORCHESTRATOR_SERVER": fake.url, "ORCHESTRATOR_API_KEY": KEY}
    completed_in(shell, "orchestrator jobs show ", JOB, tmp_path, **server)
    assert not (tmp_path / "ran").exists()


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
    assert "error: Not found" in screen
    assert ("\x1b[1;31m" in screen) is coloured


def test_an_exit_code_is_raised_never_returned() -> None:
    """typer drops a returned `typer.Exit`: every failure would exit 0."""
    sources = [path.read_text() for path in Path(orchestrator.cli.__file__).parent.rglob("*.py")]
    assert not [source for source in sources if "return typer.Exit" in source]
