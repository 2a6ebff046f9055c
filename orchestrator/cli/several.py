"""Commands that take several ids: from the command line or from a pipe, and not without being asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Terminal

#: Characters that are read from a pipe: tens of thousands of ids.
_CAP = 2**20
#: Lines of a preview.
_SHOWN = 10
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def several(words: Sequence[str]) -> list[str]:
    """Return ids, each once, `-` standing for those on stdin (what `-q` prints)."""
    read = [piece for word in words for piece in (sys.stdin.read(_CAP).split() if word == "-" else [word])]
    return list(dict.fromkeys(read))


def confirm(terminal: Terminal, question: str, preview: Sequence[str]) -> None:
    """Show what is to be done and ask. Raises `Failure`: the answer is no, or nobody is there to ask (exit 2)."""
    for line in preview[:_SHOWN]:
        terminal.notice(f"  {line}")
    if len(preview) > _SHOWN:
        terminal.notice(f"  and {len(preview) - _SHOWN} more")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure(f"nobody is here to answer: {question}", hint="--yes does it without asking", code=Exit.USAGE)
    if not typer.confirm(question, err=True):
        raise Failure("nothing was done")
