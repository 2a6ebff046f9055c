"""Tables: columns named by the fields of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Generic, TypeVar

from pydantic import BaseModel

from orchestrator.cli.terminal import Columns, moment

RowT = TypeVar("RowT", bound=BaseModel)
#: The name of a field, which is its heading too, or a heading and how its cell is read from a row.
Column = str | tuple[str, str | Callable[[RowT], object]]


class Table(Generic[RowT]):
    """The columns of a list of `model`. A narrow terminal shows the headings `first` in any case.

    Without `first` it shows every column.
    """

    def __init__(
        self, model: type[RowT], *columns: Column[RowT], first: Sequence[str] = ()
    ) -> None:
        self.columns: Columns[RowT] = dict(_column(model, column) for column in columns)
        self.first = first
        assert {*first} <= {*self.columns}, "a heading that is no column"


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
