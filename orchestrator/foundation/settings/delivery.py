"""Settings of deliveries: the retry policy that subscribers have unless they have their own."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from orchestrator.foundation.retry_policy import (
    LONGEST_WAIT,
    MOST_WAITS,
    SHORTEST_WAIT,
    STANDARD_WAITS,
    RetryPolicy,
    attempts,
    wait_seconds,
)

_WAIT: Final = {
    "anyOf": [
        {"type": "string", "pattern": "^[0-9]{1,9}[smhd]?$"},
        {"type": "number", "minimum": SHORTEST_WAIT, "maximum": LONGEST_WAIT},
    ]
}


def _check_wait(written: Any) -> Any:
    """Return a wait as it was written."""
    try:
        wait_seconds(written)
    except ValueError as error:
        raise PydanticCustomError("wait", "Input {rule}", {"rule": str(error)}) from None
    return written


#: No union of text and number: its faults would name the branch.
_Wait = Annotated[Any, AfterValidator(_check_wait), WithJsonSchema(_WAIT)]
Schedule = Annotated[list[_Wait], Field(min_length=1, max_length=MOST_WAITS)]
#: At most two minutes: a lease covers it.
Deadline = Annotated[float, Field(ge=1, le=120)]
#: No 2xx: that is a success.
FinalStatuses = Annotated[list[Annotated[int, Field(ge=300, le=599)]], Field(max_length=50)]


class Delivery(BaseModel):
    """The retry policy of the service."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    #: Between attempts, each wait up to a fifth longer.
    schedule: Schedule = list(STANDARD_WAITS)
    #: Seconds for one attempt, from connecting to the last byte of the answer.
    deadline: Deadline = 15
    #: Statuses after which a delivery is dead at once.
    final_statuses: FinalStatuses = []

    @cached_property
    def policy(self) -> RetryPolicy:
        """These settings, parsed."""
        return RetryPolicy(attempts(self.schedule), self.deadline, frozenset(self.final_statuses))
