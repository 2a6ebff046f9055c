"""Column types: instants as milliseconds and JSON as text, the same in both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field

from orchestrator.foundation.clock import EPOCH, epoch_ms
from orchestrator.foundation.json_codec import Raw, encode


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime, stored as whole milliseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[datetime | None], int | None]:
        return _milliseconds

    def result_processor(
        self, dialect: sa.Dialect, coltype: object
    ) -> Callable[[int | None], datetime | None]:
        return _instant


class Json(sa.types.TypeDecorator[Any]):
    """A JSON value, stored as text: no SQL reads its parts. None is NULL."""

    impl = sa.Text
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], str | None]:
        return _written

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[str | None], Any]:
        return _read


class RawJson(Json):
    """A JSON value that is read back as its text: what only passes through is not parsed."""

    cache_ok = True

    def result_processor(
        self, dialect: sa.Dialect, coltype: object
    ) -> Callable[[str | None], Raw | None]:
        return _raw


#: A counter that only grows. SQLite's integers have 64 bits under any type.
Count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def claimed_by() -> Any:
    """Return the column of the process that has claimed a row; NULL if none has.

    Every UPDATE clears it that does not set it: whatever changes when a row is due ends its claim.
    """
    return Field(default=None, sa_column_kwargs={"onupdate": sa.null()})


def _milliseconds(value: datetime | None) -> int | None:
    return None if value is None else epoch_ms(value)


def _instant(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + value * _MILLISECOND


def _written(value: Any) -> str | None:
    return None if value is None else encode(value).decode()


def _raw(value: str | None) -> Raw | None:
    return None if value is None else Raw(value)


def _read(value: str | None) -> Any:
    # Our own text has no whitespace around it.
    return None if value is None else _JSON.raw_decode(value)[0]


_JSON = json.JSONDecoder()
_MILLISECOND = timedelta(milliseconds=1)
