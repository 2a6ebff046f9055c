"""The fields `filter` and `ordered` of requests."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from orchestrator.api import problems
from orchestrator.events.filter_faults import filter_faults
from orchestrator.foundation.errors import Fault


def _check_filter(given: dict[str, Any]) -> dict[str, Any]:
    """Return a valid filter. Raises a 422 with the JSON pointers to its faults.

    Raised as a `Problem`: the errors of a validator have no pointer.
    """
    if faults := filter_faults(given):
        raise problems.invalid_fields(
            [Fault(f"/filter{one.pointer}", one.code, one.message) for one in faults]
        )
    return given


#: Its values are not validated as JSON: they were parsed from it.
FilterField = Annotated[
    dict[str, Any],
    AfterValidator(_check_filter),
    Field(
        description="Which events of its types it receives: JSON over the body of an event, with "
        "`$eq $neq $gt $gte $lt $lte $in $nin $exist $startsWith $endsWith $or $and $not`. "
        "At most 4 KiB, 8 levels and 25 conditions. Null: all."
    ),
]
Ordered = Annotated[
    bool,
    Field(
        description="The events of one job are delivered one after the other, in sequence: each "
        "waits until the one before it is delivered or dead."
    ),
]
