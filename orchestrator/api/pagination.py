"""Pagination: one envelope for all lists, newest first, with ids as cursors (keyset)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from orchestrator.api.endpoint import RequestContext, reply
from orchestrator.database.listing import fitting
from orchestrator.foundation.ids import is_id
from orchestrator.foundation.json_codec import Raw, encode
from orchestrator.schemas.base import Json

RowT = TypeVar("RowT")


def plain_digits(value: Any) -> Any:
    """Keep pydantic from reading `1_0` and ` 5.0 `, which it takes as integers too."""
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,9}", value):
        raise PydanticCustomError("int_parsing", "Input should be a whole number")
    return value


def split_commas(value: Any) -> Any:
    """Split a text at its commas."""
    return value.split(",") if isinstance(value, str) else value


def filters(**values: str | Sequence[str] | None) -> dict[str, list[str]]:
    """Return the wanted values by column, for `listing`. None is no filter."""
    return {
        name: [value] if isinstance(value, str) else list(dict.fromkeys(value))
        for name, value in values.items()
        if value is not None
    }


class Query(BaseModel):
    """Query parameters: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class PageRequest(Query):
    """Which page of a list. `prefix` is that of the ids in the list."""

    prefix: ClassVar[str]

    limit: Annotated[int, Field(ge=1, le=200), BeforeValidator(plain_digits)] = 50
    after: Annotated[str | None, Field(description="The `next_cursor` of the page before.")] = None

    @field_validator("after")
    @classmethod
    def _check_cursor(cls, value: str | None) -> str | None:
        if value is not None and not cls.is_cursor(value):
            raise PydanticCustomError(
                "cursor", "Not a cursor of this list; send the next_cursor of a page"
            )
        return value

    @classmethod
    def is_cursor(cls, value: str) -> bool:
        """True for text that can be a cursor of this list."""
        return is_id(value, cls.prefix)


def page_of(
    context: RequestContext,
    rows: Sequence[RowT],
    page: PageRequest,
    shape: Callable[[RowT], Json],
    cursor: str = "id",
) -> Response:
    """Return a page of `rows`, which are one more than `page.limit` if there is a next page.

    `cursor` is the field that the list is sorted by.
    """
    data = [shape(row) for row in rows[: page.limit]]
    texts = [encode(entry) for entry in data]
    count = fitting([len(text) for text in texts], context.runtime.settings.page_bytes)
    last = str(data[count - 1][cursor]) if count < len(rows) else None
    return list_response(context, [Raw(text) for text in texts[:count]], last)


def list_response(
    context: RequestContext, data: Sequence[Json | Raw], last: str | None
) -> Response:
    """Return a page of a list. `last` is the cursor of the next page; None: this is the last page.

    A page may hold fewer entries than were asked for, or none: the rows read for it are bounded.
    `last` need not be in `data`.
    """
    headers = {"link": f'<{_next(context, last)}>; rel="next"'} if last else {}
    body = {"object": "list", "data": data, "has_more": last is not None, "next_cursor": last}
    return reply(body, headers=headers)


def _next(context: RequestContext, cursor: str) -> str:
    query = dict(context.request.query_params) | {"after": cursor}
    return f"{context.runtime.base}{context.request.url.path}?{urlencode(query)}"
