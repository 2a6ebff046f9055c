"""Filters on what a JSON column holds, as text: every value is written by one compact encoder.

So a name and its value stand in a document as `"name":value`. A text inside it cannot look like
that, since its quotes are escaped. No index serves such a filter: it is for the rows of a scan.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from orchestrator.foundation.json_codec import encode

#: The column that a filter searches, by table and name of the filter.
_SEARCHED: Mapping[tuple[str, str], str] = {
    ("job", "error_code"): "error",
    ("job", "metadata_entry"): "metadata",
}


def entry(name: str, value: str) -> str:
    """Return what stands in a document that has a text under a name, at any depth."""
    return encode({name: value}).decode()[1:-1]


def holds(table: sa.Table, name: str) -> sa.ColumnElement[bool] | None:
    """Return whether a document holds the text `one_{name}`; None if `name` is a column."""
    column = _SEARCHED.get((table.name, name))
    if column is None:
        return None
    document = sa.type_coerce(table.c[column], sa.String)
    # Not LIKE: on SQLite it ignores the case of letters.
    without = sa.func.replace(document, sa.bindparam(f"one_{name}", type_=sa.String), "")
    return without != document
