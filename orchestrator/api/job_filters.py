"""Types of the filters of jobs, in the query of a list and in the body of a replay."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from orchestrator.api.pagination import split_commas
from orchestrator.foundation.states import JobState

_ENTRY = re.compile(r"[^=]{1,64}=.{0,500}", re.DOTALL)


def _check_entry(value: Any) -> Any:
    if isinstance(value, str) and not _ENTRY.fullmatch(value):
        raise PydanticCustomError("metadata", "Input should be a name and a text: name=text")
    return value


Filter = Annotated[str, Field(min_length=1, max_length=255)]
States = Annotated[
    tuple[JobState, ...], BeforeValidator(split_commas), Field(description="One or more.")
]
ErrorCode = Annotated[
    str, Field(pattern="^[a-z_]{1,64}$", description="Failed with this `error.code`.")
]
Entry = Annotated[
    str,
    BeforeValidator(_check_entry),
    Field(description="A name in the metadata and its text: `name=text`."),
]
