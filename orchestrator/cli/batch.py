"""Commands that take several ids: from the command line or from a pipe, and not without being asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Columns, Record, Terminal

#: Characters that are read from a pipe: tens of thousands of ids.
_CAP = 2**20
#: Lines of a preview.
_SHOWN = 10
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def several(words: Sequence[str]) -> list[str]:
    """Return ids, each once, `-` standing for those on stdin (what `-q` prints)."""
    read = [
        piece
        for word in words
        for piece in (sys.stdin.read(_CAP).split() if word == "-" else [word])
    ]
    return list(dict.fromkeys(read))


def one_named(words: Sequence[str]) -> bool:
    """True if people named a single id: its answer is that thing. A pipe of one is answered as one of many are."""
    return len(words) == 1 and words[0] != "-"


def confirm(terminal: Terminal, question: str, preview: Sequence[str]) -> None:
    """Show what is to be done and ask. Raises `Failure`: the answer is no, or nobody is there to ask (exit 2)."""
    for line in preview[:_SHOWN]:
        terminal.notice(f"  {line}")
    if len(preview) > _SHOWN:
        terminal.notice(f"  and {len(preview) - _SHOWN} more")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Failure(
            f"nobody is here to answer: {question}",
            hint="--yes does it without asking",
            code=Exit.USAGE,
        )
    if not typer.confirm(question, err=True):
        raise Failure("nothing was done")


def each(
    terminal: Terminal,
    things: str,
    ids: Sequence[str],
    do: Callable[[str], Record],
    shown: Callable[[Record], Record],
    columns: Columns,
    *,
    alone: bool,
) -> None:
    """Do one thing to each and print what came of it; a refusal among several is said, and does not end it.

    Raises `Failure`: that of the one that stands `alone`, or one about all of them after the last.
    """
    if alone:
        only = do(ids[0])
        terminal.record(only, shown(only))
        return
    done, refused = list[Record](), list[Failure]()
    for one in ids:
        try:
            done.append(do(one))
        except Failure as failure:
            refused.append(failure)
            terminal.notice(f"{one}: {failure.message}", "red")
    envelope: Record = {"object": "list", "data": done, "has_more": False, "next_cursor": None}
    if terminal.json or done or not refused:
        terminal.listing(envelope, columns, empty=f"no {things} were named")
    if refused:
        raise Failure(f"{len(refused)} of {len(ids)} {things} were refused", code=refused[0].code)
