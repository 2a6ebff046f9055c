"""Many rows with one statement: a column is a value, or an expression of the row's number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

#: A row's number, from 0 on.
N: sa.ColumnElement[int] = sa.column("n", sa.BigInteger)
#: Rows one statement makes.
CHUNK = 100_000
_WIDTH = 10**18


def id_of(prefix: str, era: str, number: int) -> str:
    """Return an id in the form of ours. `era` is three digits, up to "010": such ids are older than all we make."""
    return f"{prefix}_{era}0000{_WIDTH + number}"


def ids(prefix: str, era: str, number: sa.ColumnElement[int] = N) -> sa.ColumnElement[str]:
    """Return the same, for the number of a row."""
    return text(f"{prefix}_{era}0000", number + _WIDTH)


def text(before: str, number: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    """Return a number after a word."""
    return sa.literal(before) + sa.cast(number, sa.String)


def written(template: str, **marks: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return a text with something put in place of every `<name>`."""
    made: sa.ColumnElement[str] = sa.literal("")
    for part in re.split("(" + "|".join(f"<{name}>" for name in marks) + ")", template):
        made = made + (marks[part[1:-1]] if part[1:-1] in marks else sa.literal(part))
    return made


def fill(tx: sa.Connection, table: sa.Table, start: int, count: int, **columns: Any) -> None:
    """Insert rows numbered from `start` on."""
    numbers = sa.select(sa.literal(start, sa.BigInteger).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < start + count - 1))
    made: Sequence[sa.ColumnElement[Any]] = [
        value if isinstance(value, sa.ColumnElement) else sa.literal(value, table.c[name].type)
        for name, value in columns.items()
    ]
    if count:
        tx.execute(
            sa.insert(table).from_select(list(columns), sa.select(*made).select_from(numbers))
        )


def chunks(count: int) -> list[tuple[int, int]]:
    """Return (start, count) of each statement that makes so many rows."""
    return [(start, min(CHUNK, count - start)) for start in range(0, count, CHUNK)]
