"""The filters of jobs: those of `GET /v1/jobs`, and of the retries of a replay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from orchestrator.api.pagination import filters, split_commas
from orchestrator.database.json_filters import entry
from orchestrator.foundation.states import JobState, Source

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


def wanted(
    *,
    status: Sequence[JobState] | None,
    account: str | None,
    model: str | None,
    external_task_id: str | None,
    vendor_task_id: str | None,
    resolved_by: Source | None,
    error: str | None,
    metadata: str | None,
) -> dict[str, list[str]]:
    """Return the wanted values of each filter, for `listing.jobs`."""
    if error is not None and status is None:
        # No other job has an error, and this leads along an index.
        status = (JobState.FAILED,)
    return filters(
        state=status,
        account=account,
        model=model,
        external_task_id=external_task_id,
        vendor_task_id=vendor_task_id,
        resolved_by=resolved_by,
        error_code=None if error is None else entry("code", error),
        metadata_entry=None if metadata is None else entry(*metadata.split("=", 1)),
    )
