"""What all responses share: the base model, lists, problems and the writing of times."""

from __future__ import annotations

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
Json = dict[str, Any]


def _or_text(value: Any, known: ValidatorFunctionWrapHandler) -> Any:
    try:
        return known(value)
    except ValidationError:
        if isinstance(value, str):
            return value
        raise


#: On an enum field: a member that a newer server has added is read as plain text.
#: Comparisons work as before, since all members are texts.
OpenEnum = WrapValidator(_or_text)


def _closed(schema: dict[str, Any]) -> None:
    """Describe the declared fields alone."""
    schema.pop("additionalProperties", None)


class Shape(BaseModel):
    """A response, or a part of a response."""

    # Fields of a newer server are kept, so that `document` gives them back.
    model_config = ConfigDict(
        frozen=True, extra="allow", json_schema_extra=_closed, defer_build=True
    )


class Page(Shape, Generic[ThingT]):
    """A page of a list. Send `next_cursor` as `after` for the next page."""

    object: Literal["list"]
    data: list[ThingT]
    has_more: bool
    next_cursor: str | None


class Fault(Shape):
    """One error in a request: a JSON pointer to it, its kind, and a message."""

    pointer: str
    code: str
    message: str


class Problem(Shape):
    """An error (RFC 9457). `type` links to advice; a 422 lists every fault in `errors`."""

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
    replay_id: Annotated[
        str, Field(description="With `idempotency_key_reused`: the replay that has the key.")
    ] = ""
    next_cursor: Annotated[str, Field(description="With `cursor_gone`: where to go on.")] = ""
    vendor_status: Annotated[
        str, Field(description="With `vendor_error`: the status of the vendor's response.")
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


def rfc3339_or_none(at: datetime | None) -> str | None:
    """Return RFC 3339, or None."""
    return None if at is None else rfc3339(at)
