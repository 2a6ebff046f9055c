"""Types of request fields: texts, numbers and times, each with its bounds."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic import StringConstraints as Text
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from orchestrator.events.destinations.webhook import is_ours
from orchestrator.events.subscriptions import matches
from orchestrator.foundation.ids import is_id, pattern
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import EventType
from orchestrator.foundation.untrusted import is_label

#: Seconds from now until the latest `start_after`.
MAX_AHEAD = 30 * 86400
#: The code and the message of the fault of a later one.
TOO_LATE: Final = (
    "too_late", "More than 30 days ahead; send an earlier time, or submit the job later"
)  # fmt: skip
_METADATA_CAP = 16 * 1024
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1024}")


def _check_glob(glob: str) -> str:
    if not any(matches((glob,), kind) for kind in EventType):
        raise PydanticCustomError("event_type", "Matches no event type")
    return glob


def _only_rfc3339(value: Any) -> Any:
    """Keep pydantic from reading numbers and bare dates, which it takes as times too."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise PydanticCustomError(
        "rfc3339", "Input should be an RFC 3339 time with a zone, such as 2026-11-20T10:00:00Z"
    )


def _instant_or_seconds(value: Any) -> datetime | float:
    with suppress(ValidationError):
        if isinstance(value, str):
            return _TIME.validate_python(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and value > MAX_AHEAD:
        raise PydanticCustomError(*TOO_LATE)
    if is_number and value >= 0:
        return float(value)
    raise PydanticCustomError(
        "start_after",
        "Input should be an RFC 3339 time with a zone, such as 2026-11-20T10:00:00Z, or seconds "
        f"from 0 to {MAX_AHEAD} (30 days)",
    )


def _only_true_or_false(value: Any) -> Any:
    """Keep pydantic from reading `yes`, `on` and `1`, which it takes as true too."""
    words = {"true": True, "false": False}
    if isinstance(value, str) and value not in words:
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return words.get(value, value) if isinstance(value, str) else value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError(
            "rfc3339", "Input should be a time between the years 1 and 9999"
        ) from None


def _check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    for name, value in metadata.items():
        if len(name) > 64 or (isinstance(value, str) and len(value) > 500):
            raise PydanticCustomError("metadata", "Names may be 64 characters long, texts 500")
    # The first is shorter than the second, and ten times as fast.
    if len(encode(metadata)) > _METADATA_CAP or len(json.dumps(metadata)) > _METADATA_CAP:
        raise PydanticCustomError("metadata", "Metadata may be 16 KiB long")
    return metadata


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise PydanticCustomError(
                "header", "A header needs a plain name and a value of printable ASCII"
            )
        if is_ours(name):
            raise PydanticCustomError(
                "header",
                "We set this header ourselves, in whatever spelling: host, user-agent, "
                "connection, content-*, webhook-*, ce-*, proxy-*, x-forwarded-*, ...",
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise PydanticCustomError("header", "A header may be given once, in whatever case")
    return headers


def _check_label(value: str) -> str:
    if not is_label(value):
        raise PydanticCustomError(
            "label",
            "Input should be one line of visible characters, without blanks around it or in a row",
        )
    return value


@dataclass(frozen=True, slots=True)
class IdOf:
    """Marks a text as an id with that prefix: validated, and described as a pattern."""

    prefix: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate the id."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the id."""
        return {**handler(schema), "pattern": f"^{pattern(self.prefix)}$"}

    def _checked(self, value: str) -> str:
        if not is_id(value, self.prefix):
            raise PydanticCustomError("id", "Not an id of that kind")
        return value


Time = Annotated[
    datetime, BeforeValidator(_only_rfc3339), AfterValidator(_in_utc), Field(strict=False)
]
#: An instant, or seconds from now. An instant is checked by the clock later: see `start_of`.
StartAfter = Annotated[
    datetime | float,
    PlainValidator(_instant_or_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "number", "minimum": 0, "maximum": MAX_AHEAD},
            ],
            "description": "Not submitted before: a time, or seconds from now; at most 30 days.",
        }
    ),
]
FairnessKey = Annotated[
    str,
    Text(min_length=1, max_length=64),
    AfterValidator(_check_label),
    Field(description="Slots of an account go round the keys; null: the API key."),
]
_TIME: TypeAdapter[datetime] = TypeAdapter(Time)
#: A parameter of a query that is `true` or `false`.
Flag = Annotated[bool, BeforeValidator(_only_true_or_false)]
Name = Annotated[str, Text(min_length=1, max_length=128)]
Url = Annotated[str, Text(min_length=1, max_length=2048)]
Word = Annotated[str, Text(pattern="^[A-Za-z0-9_.:-]{1,64}$")]
Globs = Annotated[
    list[Annotated[str, Text(min_length=1, max_length=64), AfterValidator(_check_glob)]],
    Field(min_length=1, max_length=32),
]
#: Its values are not validated as JSON: they were parsed from it.
Metadata = Annotated[dict[str, Any], Field(max_length=50), AfterValidator(_check_metadata)]
Headers = Annotated[dict[str, str], Field(max_length=20), AfterValidator(_check_headers)]
Address = Annotated[
    Url, Field(description="Of the form of its kind: `GET /v1/destinations` has examples.")
]
Options = Annotated[
    dict[str, Annotated[str, Text(max_length=512)]],
    Field(max_length=20, description="Of its kind: `GET /v1/destinations` lists them."),
]
Credentials = Annotated[
    dict[str, Annotated[str, Text(max_length=16384)]],
    Field(
        max_length=20,
        description="Secrets of its kind, stored encrypted: they are never shown again.",
    ),
]
Description = Annotated[str, Text(max_length=500)]
Rate = Annotated[float, Field(gt=0, le=10_000)]
#: The minimum is about one in 17 minutes: a replay with a lower rate would never end.
ReplayRate = Annotated[float, Field(ge=0.001, le=10_000)]
InFlight = Annotated[
    int,
    Field(
        ge=1,
        le=256,
        description="Concurrent deliveries per process. As many may be repeated after a kill.",
    ),
]
