"""What all answers have in common: shapes, lists and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from orchestrator.foundation.clock import rfc3339

ThingT = TypeVar("ThingT")


def _or_text(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    try:
        return known(value)
    except ValidationError:
        if isinstance(value, str):
            return value
        raise


#: On a field that is one of our words: read from a newer server, a word that is not among them yet stays plain text.
#: Comparing works as ever, since all of them are texts.
Growing = WrapValidator(_or_text)


def _closed(schema: dict[str, Any]) -> None:
    """Describe the declared fields alone."""
    schema.pop("additionalProperties", None)


class Shape(BaseModel):
    """An answer, or a part of one."""

    # Fields of a newer server are kept, so that `document` gives them back.
    model_config = ConfigDict(
        frozen=True, extra="allow", json_schema_extra=_closed, defer_build=True
    )


class Page(Shape, Generic[ThingT]):
    """A part of a list. Send `next_cursor` as `after` for the next part."""

    object: Literal["list"]
    data: list[ThingT]
    has_more: bool
    next_cursor: str | None


class Fault(Shape):
    """One thing wrong with a request: where (a JSON pointer), what kind, in which words."""

    pointer: str
    code: str
    message: str


class Problem(Shape):
    """A refusal (RFC 9457). `type` leads to what to do about it; `errors` stands in a 422."""

    model_config = ConfigDict(json_schema_extra=None)

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: list[Fault] = []
    job_id: Annotated[
        str, Field(description="With 409 and 422: the job that stands in the way.")
    ] = ""
    next_cursor: Annotated[str, Field(description="With `cursor_gone`: where to go on.")] = ""
    vendor_status: Annotated[
        str, Field(description="With `vendor_error`: the status the vendor answered with.")
    ] = ""


def document(model: BaseModel) -> dict[str, Any]:
    """Return a model as the JSON it was read from: every field that was there, times as sent."""
    fields: dict[str, Any] = _plain(
        model.model_dump(by_alias=True, exclude_unset=True, warnings=False)
    )
    return fields


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(below) for name, below in value.items()}
        case list():
            return [_plain(below) for below in value]
        case datetime():
            return rfc3339(value)
        case _:
            return value


Row = Mapping[Any, Any]


Json = dict[str, Any]


def rfc3339_or_none(at: datetime | None) -> str | None:
    """Return RFC 3339, or None."""
    return None if at is None else rfc3339(at)
