"""The row types are those of the tables: the same columns, of the same types."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import sqlalchemy as sa
from sqlmodel import AutoString

from orchestrator.database.tables import metadata, rows
from orchestrator.database.tables.columns import Instant, Json, RawJson
from orchestrator.foundation.json_codec import Raw

TYPES = {
    name: getattr(rows, "".join(word.title() for word in name.split("_")) + "Row")
    for name in metadata.tables
}
#: What Python reads back from a column of a type.
PYTHON: list[tuple[type[Any], set[Any]]] = [
    (Instant, {datetime}),
    (RawJson, {Raw}),
    # Of a vendor's own JSON, any value.
    (Json, {dict, list, Any}),
    (sa.Boolean, {bool}),
    (sa.LargeBinary, {bytes}),
    (sa.Float, {float}),
    (sa.Integer, {int}),
    (AutoString, {str}),
]


def test_every_table_has_a_row_type_of_its_columns() -> None:
    assert {name: list(get_type_hints(kind)) for name, kind in TYPES.items()} == {
        name: [column.name for column in table.c] for name, table in metadata.tables.items()
    }


@pytest.mark.parametrize("name", sorted(metadata.tables))
def test_a_field_is_of_the_type_its_column_is_read_back_as(name: str) -> None:
    hints = get_type_hints(TYPES[name])
    for column in metadata.tables[name].c:
        expected = next(found for kind, found in PYTHON if isinstance(column.type, kind))
        arguments = get_args(hints[column.name])
        union = arguments if type(None) in arguments else (hints[column.name],)
        found = {get_origin(member) or member for member in union} - {type(None)}
        assert found, column
        assert found <= expected, (column, hints[column.name])
        assert (type(None) in arguments) is bool(column.nullable), (column, hints[column.name])
