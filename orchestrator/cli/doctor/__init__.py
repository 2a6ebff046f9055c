"""`orchestrator doctor`: checks of everything the service needs, with fixes.

The checks run concurrently, and none changes anything, except with `--send-test`.
"""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from typing import Annotated

import typer
from rich.console import Console

from orchestrator.cli.command import Session, command
from orchestrator.cli.doctor.findings import Finding, Status
from orchestrator.cli.failure import Exit
from orchestrator.cli.terminal import clean, counted

#: An icon for each status, next to its word.
_ICONS = {
    Status.OK: ("✓", "green"),
    Status.WARNING: ("!", "yellow"),
    Status.PROBLEM: ("✗", "bold red"),
}

#: Characters of a check's name next to its finding; a longer name has its own line.
_NAME = 20
#: A finding's width on a terminal with less room.
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
    """Check settings, database, server, public URL, accounts, subscribers; exit 9 on problems."""
    # Here: commands that only call a server start without the service.
    from orchestrator.cli.doctor.run import examine

    findings = examine(session, send_test=send_test)
    problems = [finding for finding in findings if finding.status is Status.PROBLEM]
    if session.terminal.json:
        session.terminal.document(
            {"findings": [finding.shown() for finding in findings], "problems": len(problems)}
        )
    elif session.terminal.quiet:
        session.terminal.say(*(finding.check for finding in problems))
    else:
        _print(session, findings)
    if problems:
        raise typer.Exit(Exit.PROBLEMS)


def _print(session: Session, findings: list[Finding]) -> None:
    """Print each finding, and its fix below it, in lines that fit."""
    terminal = session.terminal
    names = [len(finding.check) for finding in findings]
    longest = max((length for length in names if length <= _NAME), default=0)
    begin = len("✓ problem") + 2
    room = max(Console().width - begin - longest - 2, _LEAST) if sys.stdout.isatty() else None
    for finding in findings:
        icon, style = _ICONS[finding.status]
        status = (f"{icon} {finding.status.value:<7}", style)
        # A command is not wrapped, so that it can be copied.
        copied = finding.fix.startswith(("orchestrator ", "chmod "))
        fix = _wrapped(finding.fix, None if copied or room is None else room - 2)
        found = _wrapped(finding.found, room) or [""]
        lines = [*found, *(("  " if number else "→ ") + line for number, line in enumerate(fix))]
        first = "" if len(finding.check) > longest else lines.pop(0)
        terminal.styled(status, f"  {finding.check:<{longest}}  {first}".rstrip())
        for line in lines:
            terminal.styled(" " * (begin + longest + 2) + line)
    count = Counter(finding.status for finding in findings)
    warnings, problems = count[Status.WARNING], count[Status.PROBLEM]
    terminal.notice(
        f"{count[Status.OK]} ok, {counted(warnings, 'warning')}, {counted(problems, 'problem')}"
    )


def _wrapped(text: str, room: int | None) -> list[str]:
    """Return a text as lines of at most `room` characters; long words such as URLs stay whole."""
    lines = clean(text).splitlines()
    if room is None:
        return lines
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
    ]
