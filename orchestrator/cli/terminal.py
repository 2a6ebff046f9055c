"""What people and scripts read: data on stdout, everything else on stderr, and never a stranger's escape sequence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Record = dict[str, Any]
Columns = Mapping[str, Callable[[Record], object]]


def clean(words: object) -> str:
    """Return text that cannot drive a terminal: vendors and callers wrote some of it."""
    text = "" if words is None else str(words)
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def moment(stamp: object) -> str:
    """Return `2026-11-20 10:00:00` for an RFC 3339 time, `-` for none."""
    return str(stamp)[:19].replace("T", " ") if stamp else "-"


def span(seconds: float) -> str:
    """Return `1m 08s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{seconds:.1f}s"


@dataclass(slots=True)
class Terminal:
    """Prints in the form that was asked for: tables, JSON, or bare ids."""

    json: bool = False
    quiet: bool = False

    def listing(self, envelope: Record, columns: Columns) -> None:
        """Print a list as the API answered it."""
        rows: list[Record] = envelope["data"]
        if self.json:
            self.document(envelope)
        elif self.quiet:
            self.say("\n".join(str(row.get("id") or row.get("name")) for row in rows))
        else:
            self.table(list(columns), [[clean(show(row)) for show in columns.values()] for row in rows])
            if envelope.get("has_more"):
                self.notice(f"more: --after {envelope.get('next_cursor')}")

    def record(self, record: Record, shown: Mapping[str, object], *, key: str = "id") -> None:
        """Print one thing: its fields, one to a line, without those that say nothing."""
        if self.json:
            self.document(record)
        elif self.quiet:
            self.say(str(record[key]))
        else:
            said = {name: clean(value) for name, value in shown.items() if value not in (None, "", [], {})}
            width = max(map(len, said), default=0)
            self.say("\n".join(f"{name:<{width}}  {value}" for name, value in said.items()))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; plain aligned text where nobody watches."""
        if sys.stdout.isatty():
            table = Table(*heads, box=None, header_style="bold", pad_edge=False)
            for row in rows:
                table.add_row(*(Text(cell, overflow="fold") for cell in row))
            Console().print(table)
            return
        lines = [[head.upper() for head in heads], *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        for line in lines:
            padded = (cell.replace("\n", " ").ljust(width) for cell, width in zip(line, widths, strict=True))
            self.say("  ".join(padded).rstrip())

    def document(self, document: object) -> None:
        """Print the one JSON document of a command."""
        self.say(json.dumps(document, indent=2, ensure_ascii=False))

    def line(self, document: object) -> None:
        """Print a JSON document on one line, so that the last line is all of it."""
        self.say(json.dumps(document, ensure_ascii=False))

    def say(self, words: str) -> None:
        """Print a line of data."""
        if words:
            sys.stdout.write(words + "\n")
            sys.stdout.flush()

    def notice(self, words: str, style: str = "") -> None:
        """Tell people something that is not data."""
        Console(stderr=True, soft_wrap=True).print(Text(clean(words), style=style))
