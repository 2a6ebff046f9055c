"""Lists: one envelope, newest first, and ids as cursors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

import sqlalchemy as sa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from orchestrator.api.endpoint import RequestContext, reply
from orchestrator.database.store import Tx
from orchestrator.foundation.ids import is_id

Row = Mapping[Any, Any]


def digits(value: Any) -> Any:
    """Leave only plain digits to pydantic, which reads `1_0` and ` 5.0 ` as integers too."""
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,9}", value):
        raise PydanticCustomError("int_parsing", "Input should be a whole number")
    return value


def words(value: Any) -> Any:
    """Return what commas divide."""
    return value.split(",") if isinstance(value, str) else value


class Query(BaseModel):
    """Query parameters: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageRequest(Query):
    """Which part of a list. `prefix` is that of the ids in the list."""

    prefix: ClassVar[str]

    limit: Annotated[int, Field(ge=1, le=200), BeforeValidator(digits)] = 50
    after: Annotated[str | None, Field(description="The `next_cursor` of the part before.")] = None

    @field_validator("after")
    @classmethod
    def _is_a_cursor(cls, value: str | None) -> str | None:
        if value is not None and not cls.is_cursor(value):
            raise PydanticCustomError(
                "cursor", "Not a cursor of this list; send the next_cursor of a page"
            )
        return value

    @classmethod
    def is_cursor(cls, value: str) -> bool:
        """True if a page of this list can end there."""
        return is_id(value, cls.prefix)


def newest(tx: Tx, query: sa.Select[Any], column: sa.Column[str], page: PageRequest) -> list[Row]:
    """Return a page of `query`, newest first by the id in `column`, and one row more if there is more."""
    if page.after is not None:
        query = query.where(column < page.after)
    return list(tx.execute(query.order_by(column.desc()).limit(page.limit + 1)).mappings())


def _id(row: Row) -> str:
    return str(row["id"])


def listed(
    call: RequestContext,
    rows: Sequence[Row],
    page: PageRequest,
    shape: Callable[[Row], Row],
    cursor: Callable[[Row], str] = _id,
) -> Response:
    """Answer with a page of `rows`, which are one more than `page.limit` if there is more."""
    kept = rows[: page.limit]
    return paged(
        call, [shape(row) for row in kept], cursor(kept[-1]) if len(rows) > page.limit else None
    )


def paged(call: RequestContext, data: Sequence[Row], last: str | None) -> Response:
    """Answer with a page after which one goes on from `last`; None: there is no more.

    It may hold fewer than were asked for, or none: what was looked at for it is bounded, and `last` need not be in it.
    """
    headers = {"link": f'<{_next(call, last)}>; rel="next"'} if last else {}
    return reply(
        {"object": "list", "data": data, "has_more": last is not None, "next_cursor": last},
        headers=headers,
    )


def _next(call: RequestContext, cursor: str) -> str:
    query = dict(call.request.query_params) | {"after": cursor}
    return f"{call.runtime.base}{call.request.url.path}?{urlencode(query)}"
