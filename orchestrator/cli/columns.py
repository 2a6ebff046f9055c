"""Tables: columns named by the fields of a model, and fewer of them on a narrow terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Generic, TypeVar

from pydantic import BaseModel
from rich.console import Console

from orchestrator.cli.terminal import Columns, moment

RowT = TypeVar("RowT", bound=BaseModel)
#: The name of a field, which is its heading too, or a heading and how its cell is read from a row.
Column = str | tuple[str, str | Callable[[RowT], object]]


class Table(Generic[RowT]):
    """The columns of a list of `model`. A terminal narrower than `wide` shows only `narrow`."""

    def __init__(
        self, model: type[RowT], *columns: Column[RowT], narrow: Sequence[str] = (), wide: int = 0
    ) -> None:
        self._columns = dict(_column(model, column) for column in columns)
        self._narrow = {heading: self._columns[heading] for heading in narrow}
        self._wide = wide

    @property
    def columns(self) -> Columns[RowT]:
        """The columns for the present terminal, or for a pipe."""
        narrow = sys.stdout.isatty() and Console().width < self._wide
        return self._narrow if narrow else self._columns


def _column(model: type[RowT], column: Column[RowT]) -> tuple[str, Callable[[RowT], object]]:
    """Return a heading and its cell. `created_at` is headed `created`, `in_flight` `in flight`."""
    heading, cell = (column, column) if isinstance(column, str) else column
    if isinstance(column, str):
        heading = column.removesuffix("_at").replace("_", " ")
    if callable(cell):
        return heading, cell
    assert cell in model.model_fields, f"{model.__name__} has no field {cell}"
    read = attrgetter(cell)
    return heading, lambda row: _text(read(row))


def _text(value: object) -> object:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "-" if value is None else value
