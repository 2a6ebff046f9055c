"""Output: data on stdout, everything else on stderr, and no escape sequences from outside."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.text import Text

from orchestrator.cli.table_layout import hung, laid_out, unlimited

if TYPE_CHECKING:
    from pydantic import BaseModel

    from orchestrator.cli.columns import Table
    from orchestrator.schemas import Page

RowT = TypeVar("RowT")
ModelT = TypeVar("ModelT", bound="BaseModel")
Record = dict[str, Any]
Columns = Mapping[str, Callable[[RowT], object]]

#: Begins a line that is the continuation of a text from outside.
_CONTINUED = "| "
#: Values of fields that are not shown.
_EMPTY: tuple[object, ...] = (None, "", [], {})


def clean(words: object, indent: int = 2) -> str:
    """Return text that cannot drive a terminal, nor look like a line of the program.

    Vendors and callers wrote some of it. What does not print, bidirectional controls included, is
    replaced, and the lines after the first one are indented and marked.
    """
    text = "" if words is None else str(words)
    if text.isprintable():
        return text
    return f"\n{' ' * indent}{_CONTINUED}".join(map(_printable, text.splitlines()))


def one_line(words: object) -> str:
    """Return the text on one line, for a cell or a line that is redrawn."""
    text = "" if words is None else str(words)
    return text if text.isprintable() else " ".join(map(_printable, text.splitlines()))


def _printable(line: str) -> str:
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line
    )


def spelled(document: object, *, indent: int | None = None) -> str:
    """Return JSON that cannot drive a terminal: characters that are not printable are escaped."""
    text = json.dumps(
        document, indent=indent, ensure_ascii=sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    )
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1]
        for letter in text
    )


def moment(at: datetime | None) -> str:
    """Return `2026-11-20 10:00:00`, `-` for None."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "-"


def span(seconds: float) -> str:
    """Return `1m 08s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{seconds:.1f}s"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return `1 event`, `2 events`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


class _Stdout(Console):
    """Stdout with colours. A broken pipe raises, with colours and without."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@dataclass(slots=True)
class Terminal:
    """Prints tables, JSON (`json`) or bare ids (`quiet`). `streaming`: one document per line."""

    json: bool = False
    quiet: bool = False
    streaming: bool = False

    @property
    def live(self) -> bool:
        """True if stderr is a terminal that can redraw a line."""
        return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")

    def listing(
        self,
        page: Page[ModelT],
        table: Table[ModelT],
        *,
        whole: str = "",
        empty: str = "there are none",
    ) -> None:
        """Print a page of a list; the notice `empty` replaces an empty table's rows."""
        if self.json:
            self.document(page)
        elif self.quiet:
            for row in page.data:
                found = (getattr(row, field, None) for field in ("id", "name", "kind"))
                self.say(one_line(next(filter(None, found), "")))
        else:
            columns = table.columns
            rows = [[one_line(cell(row)) for cell in columns.values()] for row in page.data]
            self.table(list(columns), rows, first=table.first, whole=whole)
            if page.has_more:
                self.notice(f"more: --after {page.next_cursor}")
            elif not page.data:
                self.notice(empty)

    def record(
        self, record: BaseModel | Record, shown: Mapping[str, object], *, key: str = "id"
    ) -> None:
        """Print one thing: its fields, one per line, without empty ones; `key` alone if quiet.

        The items of a list stand one below the other.
        """
        if self.json:
            self.document(record)
        elif self.quiet:
            self.say(one_line(record[key] if isinstance(record, dict) else getattr(record, key)))
        else:
            fields = {name: value for name, value in shown.items() if value not in _EMPTY}
            width = max(map(len, fields), default=0) + 2
            for name, value in fields.items():
                heading = name
                for item in value if isinstance(value, list) else [value]:
                    self._write(f"{heading:<{width}}{clean(item, width)}")
                    heading = ""

    def table(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        first: Sequence[str] = (),
        whole: str = "",
    ) -> None:
        """Print a table.

        A terminal shows the columns that fit, the headings `first` in any case, and a notice names
        the others. Long words are shortened, but not ids, times, and the column `whole`, which
        wraps if it is the last.
        """
        columns = [
            [head.upper(), *map(one_line, cells)] for head, *cells in zip(heads, *rows, strict=True)
        ]
        watched, room, wraps = sys.stdout.isatty(), Console().width, heads[-1] == whole
        layout = unlimited(columns)
        if watched:
            numbers = [heads.index(head) for head in first]
            kept = [number for number, head in enumerate(heads) if head == whole]
            layout = laid_out(columns, room, first=numbers, whole=kept, wraps=wraps)
        for number, line in enumerate(zip(*columns, strict=True)):
            texts = [Text(line[column]) for column in layout.shown]
            for text, width in zip(texts, layout.widths, strict=True):
                text.truncate(width, overflow="ellipsis", pad=True)
            words = "  ".join(text.plain for text in texts).rstrip()
            if watched and wraps:
                words = hung(words, sum(layout.widths[:-1]) + 2 * (len(texts) - 1), room)
            if watched and not number:
                _Stdout(soft_wrap=True).print(Text(words, style="bold"))
            else:
                # The cells have no line breaks: these are ours.
                self.say(*words.split("\n"))
        if hidden := [head for number, head in enumerate(heads) if number not in layout.shown]:
            what = f"{counted(len(hidden), 'column')} hidden: {', '.join(hidden)}"
            self.notice(f"{what}; a wider terminal, a pipe or --json shows them")

    def document(self, document: BaseModel | Record) -> None:
        """Print a JSON document: a model as it was read."""
        self._write(spelled(_plain(document), indent=None if self.streaming else 2))

    def line(self, document: BaseModel | Record) -> None:
        """Print a JSON document on one line."""
        self._write(spelled(_plain(document)))

    def say(self, *lines: str) -> None:
        """Print lines of data, without empty ones."""
        for line in filter(None, lines):
            self._write(clean(line))

    def _write(self, words: str) -> None:
        sys.stdout.write(words + "\n")
        sys.stdout.flush()

    def styled(self, *pieces: str | tuple[str, str]) -> None:
        """Print a line of data from texts and (text, style), coloured where colours are wanted."""
        cleaned = [
            clean(piece) if isinstance(piece, str) else (clean(piece[0]), piece[1])
            for piece in pieces
        ]
        _Stdout(soft_wrap=True).print(Text.assemble(*cleaned))
        sys.stdout.flush()

    def notice(self, words: str, style: str = "", more: Sequence[str] = ()) -> None:
        """Print a notice on stderr, and more lines below it, indented."""
        lines = [clean(words), *(f"  {clean(line, 4)}" for line in more)]
        Console(stderr=True, soft_wrap=True).print(Text("\n".join(lines), style=style))


def _plain(document: BaseModel | Record) -> Record:
    if isinstance(document, dict):
        return document
    # Here: commands without a server start without pydantic.
    from orchestrator.schemas import document as as_json

    return as_json(document)
