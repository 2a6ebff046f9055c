"""Commands that take several ids, as arguments or from a pipe, and ask before they act."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel

from orchestrator.cli.columns import Table
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record, Terminal
from orchestrator.schemas import Page

RowT = TypeVar("RowT", bound=BaseModel)

#: Characters read from a pipe: tens of thousands of ids.
_CAP = 2**20
#: The controlling terminal.
_TERMINAL = Path("/dev/tty")
#: Lines of a preview.
_SHOWN = 10
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def several(words: Sequence[str]) -> list[str]:
    """Return ids without duplicates; `-` stands for those on stdin (the output of `-q`)."""
    read = [
        text for word in words for text in (sys.stdin.read(_CAP).split() if word == "-" else [word])
    ]
    return list(dict.fromkeys(read))


def is_single(words: Sequence[str]) -> bool:
    """True for one named id, answered as that resource; a pipe of one is answered as a list."""
    return len(words) == 1 and words[0] != "-"


def confirm(terminal: Terminal, question: str, preview: Sequence[str]) -> None:
    """Show a preview and ask. Raises `Failure`: refused, or stdin is no terminal (exit 2)."""
    for line in preview[:_SHOWN]:
        terminal.notice(f"  {line}")
    if len(preview) > _SHOWN:
        terminal.notice(f"  and {len(preview) - _SHOWN} more")
    if not can_ask():
        raise Failure(
            f"no terminal to ask on: {question}",
            hint="--yes does it without asking",
            code=Exit.USAGE,
        )
    if not _agreed(question):
        raise Failure("nothing was done")


def can_ask() -> bool:
    """True if someone may answer: a pipe on stdin leaves the terminal that the process has."""
    if not sys.stderr.isatty():
        return False
    if sys.stdin.isatty():
        return True
    try:
        _TERMINAL.open().close()
    except OSError:
        return False
    return True


def _agreed(question: str) -> bool:
    if sys.stdin.isatty():
        return typer.confirm(question, err=True)
    typer.echo(f"{question} [y/N]: ", err=True, nl=False)
    with _TERMINAL.open() as terminal:
        return terminal.readline().strip().lower() in ("y", "yes")


def each(
    terminal: Terminal,
    things: str,
    ids: Sequence[str],
    do: Callable[[str], RowT],
    shown: Callable[[RowT], Record],
    table: Table[RowT],
    *,
    single: bool,
) -> None:
    """Do one thing to each id and print the results; a refusal does not stop the others.

    Raises `Failure`: the only id's own (`single`), or after the last one if some were refused.
    Ctrl-C does stop the others.
    """
    if single:
        only = do(ids[0])
        terminal.record(only, shown(only))
        return
    done, refused = list[RowT](), list[Failure]()
    for resource_id in ids:
        try:
            done.append(do(resource_id))
        except Failure as failure:
            refused.append(failure)
            terminal.notice(f"{resource_id}: {failure.message}", "red", failure.more)
            if failure.code is Exit.INTERRUPTED:
                break
    if terminal.json or done or not refused:
        terminal.listing(page_of(done), table, empty=f"no {things} were named")
    if refused and refused[-1].code is Exit.INTERRUPTED:
        raise refused[-1]
    if refused:
        raise Failure(f"{len(refused)} of {len(ids)} {things} were refused", code=refused[0].code)


def page_of(rows: Sequence[RowT]) -> Page[RowT]:
    """Return rows in the list envelope of the API."""
    return Page[Any](object="list", data=[*rows], has_more=False, next_cursor=None)
