"""Counts and digests of tables, to compare two databases of different kinds.

The digest of a table is the sum of the SHA-256 digests of its rows, modulo 2**256, so the order in
which a database returns them does not matter. A row is the values that are stored, not those that
their types make of them: text of JSON, milliseconds of instants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

#: The stored values of a row, in the order of columns: texts, numbers, booleans, bytes and None.
StoredRow = tuple[object, ...]


class TableDigest(NamedTuple):
    """The number of rows of a table, and their digest in hexadecimal."""

    rows: int
    digest: str


def digest_of(rows: Iterable[StoredRow]) -> TableDigest:
    """Return the digest of rows in any order."""
    count = total = 0
    for row in rows:
        # Of such values `repr` is exact, and never the same for two rows that differ.
        one = hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")).digest()
        total += int.from_bytes(one, "big")
        count += 1
    return TableDigest(count, f"{total % (1 << 256):064x}")
