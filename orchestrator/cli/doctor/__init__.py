"""`orchestrator doctor`: looks at everything that has to be right, and says how to make it so.

The checks do not wait for each other, and none of them changes anything, unless a test is asked for.
"""

from __future__ import annotations

import sys
import textwrap
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.command import Session, command
from orchestrator.cli.doctor.findings import Finding, Status
from orchestrator.cli.failure import Exit

#: Words, and an icon for eyes that skim; the words are there without it.
_ICONS = {
    Status.OK: ("✓", "green"),
    Status.WARNING: ("!", "yellow"),
    Status.PROBLEM: ("✗", "bold red"),
}

#: Characters of a name that stands beside what was found; a longer one has a line of its own.
_NAME = 20
#: What is found has this much room even on a terminal that has less.
_LEAST = 30


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "doctor", "orchestrator doctor --json")(doctor)


def doctor(
    session: Session,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Also send every active subscriber a test event.")
    ] = False,
) -> None:
    """Check configuration, database, server, public URL, accounts and subscribers; exit 9 if there are problems."""
    # Here, so that commands which only talk to a server start without the service.
    from orchestrator.cli.doctor.run import examine

    findings = examine(session, send_test=send_test)
    problems = [one for one in findings if one.status is Status.PROBLEM]
    if session.terminal.json:
        session.terminal.document(
            {"findings": [one.shown() for one in findings], "problems": len(problems)}
        )
    elif session.terminal.quiet:
        session.terminal.say("\n".join(one.check for one in problems))
    else:
        _tell(session, findings)
    if problems:
        raise typer.Exit(Exit.PROBLEMS)


def _tell(session: Session, findings: list[Finding]) -> None:
    """Print what was found, and below it what to do about it, in lines that fit."""
    longest = max((len(one.check) for one in findings if len(one.check) <= _NAME), default=0)
    begin = len("✓ problem") + 2
    room = max(Console().width - begin - longest - 2, _LEAST) if sys.stdout.isatty() else None
    for one in findings:
        icon, style = _ICONS[one.status]
        # A command is not broken up, so that it can be copied.
        copied = one.fix.startswith(("orchestrator ", "chmod "))
        fix = _wrapped(one.fix, None if copied or room is None else room - 2) if one.fix else []
        lines = [
            *_wrapped(one.found, room),
            *(("  " if number else "→ ") + line for number, line in enumerate(fix)),
        ]
        if len(one.check) > longest:
            session.terminal.styled((f"{icon} {one.status.value:<7}", style), f"  {one.check}")
        else:
            name = f"  {one.check:<{longest}}  "
            session.terminal.styled((f"{icon} {one.status.value:<7}", style), name + lines.pop(0))
        for line in lines:
            session.terminal.styled(" " * (begin + longest + 2) + line)
    counted = {status: sum(one.status is status for one in findings) for status in Status}
    words = [f"{counted[Status.OK]} ok", _many(counted[Status.WARNING], "warning")]
    session.terminal.notice(", ".join([*words, _many(counted[Status.PROBLEM], "problem")]))


def _wrapped(words: str, room: int | None) -> list[str]:
    """Return words as lines of at most `room` characters; long words such as URLs stay whole."""
    lines = words.splitlines() or [""]
    if room is None:
        return lines
    return [
        piece
        for line in lines
        for piece in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
    ]


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
