"""What people and scripts read: data on stdout, everything else on stderr, and never a stranger's escape sequence."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

Record = dict[str, Any]
Columns = Mapping[str, Callable[[Record], object]]

#: Cells of this width are not shortened any further.
_NARROWEST = 8
#: Less room than this holds no words.
_LEAST = 24
_IDS = re.compile(r"\b[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def clean(words: object) -> str:
    """Return text that cannot drive a terminal: vendors and callers wrote some of it."""
    text = "" if words is None else str(words)
    return "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def spelled(document: object, *, indent: int | None = None) -> str:
    """Return JSON that cannot drive a terminal either: what is not printable is escaped, as JSON may always do."""
    text = json.dumps(
        document, indent=indent, ensure_ascii=sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    )
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text
    )


def moment(stamp: object) -> str:
    """Return `2026-11-20 10:00:00` for an RFC 3339 time, `-` for none."""
    return str(stamp)[:19].replace("T", " ") if stamp else "-"


def fitted(widths: Sequence[int], fixed: Collection[int], room: int) -> list[int]:
    """Return the widths of columns two apart in `room`: the widest ones give way first, `fixed` ones never."""
    fitting = list(widths)
    while sum(fitting) + 2 * (len(fitting) - 1) > room:
        able = [n for n, width in enumerate(fitting) if n not in fixed and width > _NARROWEST]
        if not able:
            break
        fitting[max(able, key=fitting.__getitem__)] -= 1
    return fitting


def hung(line: str, indent: int, room: int) -> str:
    """Return a line of a table that is longer than `room` with the words of its last column below each other."""
    if cell_len(line) <= room or room - indent < _LEAST:
        return line
    return textwrap.fill(
        line, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def _unshortened(cells: Sequence[str]) -> bool:
    """True for a column of ids, or of times: half of one is none."""
    return any(_IDS.search(cell) or _MOMENT.fullmatch(cell) for cell in cells)


def span(seconds: float) -> str:
    """Return `1m 08s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{seconds:.1f}s"


class _Stdout(Console):
    """Stdout with colours; that nobody reads it any more is for the command to hear, as where it has none."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@dataclass(slots=True)
class Terminal:
    """Prints in the form that was asked for: tables, JSON, or bare ids. With `streaming` each document is a line."""

    json: bool = False
    quiet: bool = False
    streaming: bool = False

    @property
    def live(self) -> bool:
        """True if somebody watches stderr, on a terminal that can draw a line again."""
        return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")

    def listing(
        self, envelope: Record, columns: Columns, *, whole: str = "", empty: str = "there are none"
    ) -> None:
        """Print a list as the API answered it; `empty` says to people that nothing is in it."""
        rows: list[Record] = envelope["data"]
        if self.json:
            self.document(envelope)
        elif self.quiet:
            self.say("\n".join(str(row.get("id") or row.get("name")) for row in rows))
        else:
            self.table(
                list(columns),
                [[clean(show(row)) for show in columns.values()] for row in rows],
                whole=whole,
            )
            if envelope.get("has_more"):
                self.notice(f"more: --after {envelope.get('next_cursor')}")
            elif not rows:
                self.notice(empty)

    def record(self, record: Record, shown: Mapping[str, object], *, key: str = "id") -> None:
        """Print one thing: its fields, one to a line, without those that say nothing."""
        if self.json:
            self.document(record)
        elif self.quiet:
            self.say(str(record[key]))
        else:
            said = {
                name: clean(value)
                for name, value in shown.items()
                if value not in (None, "", [], {})
            }
            width = max(map(len, said), default=0)
            self.say("\n".join(f"{name:<{width}}  {value}" for name, value in said.items()))

    def table(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, whole: str = ""
    ) -> None:
        """Print a table. A terminal's lines are made to fit by shortening long words; never ids, times, nor `whole`."""
        columns = [[head.upper(), *cells] for head, *cells in zip(heads, *rows, strict=True)]
        columns = [[cell.replace("\n", " ") for cell in column] for column in columns]
        widths = [max(map(cell_len, column)) for column in columns]
        watched, room = sys.stdout.isatty(), Console().width
        if watched:
            fixed = {
                n
                for n, head in enumerate(heads)
                if n == 0 or head == whole or _unshortened(columns[n])
            }
            widths = fitted(widths, fixed, room)
        for number, line in enumerate(zip(*columns, strict=True)):
            cells = [Text(cell) for cell in line]
            for cell, width in zip(cells, widths, strict=True):
                cell.truncate(width, overflow="ellipsis", pad=True)
            words = "  ".join(cell.plain for cell in cells).rstrip()
            if watched and heads[-1] == whole:
                words = hung(words, sum(widths[:-1]) + 2 * (len(widths) - 1), room)
            if watched and not number:
                _Stdout(soft_wrap=True).print(Text(words, style="bold"))
            else:
                self.say(words)

    def document(self, document: object) -> None:
        """Print the one JSON document of a command, or one of many."""
        self.say(spelled(document, indent=None if self.streaming else 2))

    def line(self, document: object) -> None:
        """Print a JSON document on one line, so that the last line is all of it."""
        self.say(spelled(document))

    def say(self, words: str) -> None:
        """Print a line of data."""
        if words:
            sys.stdout.write(clean(words) + "\n")
            sys.stdout.flush()

    def styled(self, *pieces: str | tuple[str, str]) -> None:
        """Print a line of data from words and (words, style): with colours on a terminal that has and wants them."""
        cleaned = [
            clean(one) if isinstance(one, str) else (clean(one[0]), one[1]) for one in pieces
        ]
        _Stdout(soft_wrap=True).print(Text.assemble(*cleaned))
        sys.stdout.flush()

    def notice(self, words: str, style: str = "") -> None:
        """Tell people something that is not data."""
        Console(stderr=True, soft_wrap=True).print(Text(clean(words), style=style))
