"""A configured vendor account: where it is, its credentials, its limits and how it is polled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from orchestrator.foundation.settings.error_messages import UNMET
from orchestrator.foundation.settings.types import (
    HeaderSecret,
    OptionText,
    Rate,
    Seconds,
    SigningSecret,
    Url,
)

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_EMPTY = SecretStr("")
#: At most what the longest lease covers.
_AnswerSeconds = Annotated[float, Field(gt=0, le=600)]


class Poll(BaseModel):
    """When a missing push is suspicious, and how long it is waited for. Times in seconds.

    `adaptive` learns how long jobs take and how often pushes are lost; it asks like `fixed` until
    enough is known. `sureness`: how likely a push must be lost before a query is spent.
    `max_missed_delay`: how late a lost push may be found, for 19 of 20.
    """

    model_config = _STRICT

    policy: Literal["adaptive", "fixed"] = "adaptive"
    sureness: Annotated[float, Field(ge=0.001, le=0.99)] = 0.1
    max_missed_delay: Annotated[float, Field(ge=8, le=86_400)] | None = None

    first_after: Seconds = 60
    interval: Seconds = 15
    max_interval: Seconds = 120
    deadline: Seconds = 86400
    visibility_lag: Seconds = 10
    output_grace: Seconds = 300
    lost_after: Seconds = 600

    @model_validator(mode="after")
    def _grows(self) -> Poll:
        if self.max_interval < self.interval:
            raise PydanticCustomError(
                UNMET, "must not be smaller than interval", {"field": "max_interval"}
            )
        return self


class Account(BaseModel):
    """An account at a vendor. Its secrets stay out of its repr."""

    model_config = _STRICT

    vendor: Annotated[str, Field(min_length=1, max_length=64)]
    base_url: Annotated[Url, Field(repr=False)] = ""
    api_key: HeaderSecret = _EMPTY
    access_key: HeaderSecret = _EMPTY
    secret_key: HeaderSecret = _EMPTY
    signature: Literal["required", "optional", "none"] = "none"
    webhook_secrets: list[SigningSecret] = []
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 10
    #: Seconds for one submission or status query, from connecting to the last byte of the answer.
    answer_timeout: _AnswerSeconds = 60
    #: Of a submission, and of the lookup of a lost one; None: `answer_timeout`.
    submit_deadline: _AnswerSeconds | None = None
    #: Submissions per second; None: limited by `max_in_flight` alone.
    rate_limit: Rate | None = None
    on_lost_submit: Literal["at_most_once", "at_least_once"] = "at_most_once"
    options: dict[str, OptionText] = {}
    poll: Poll = Poll()

    _name: str = PrivateAttr("")

    @cached_property
    def name(self) -> str:
        """Its key in the settings. Cached: pydantic is slow to read a private attribute."""
        return self._name

    @property
    def submit_timeout(self) -> float:
        """Seconds for a submission, or for the lookup of a lost one."""
        return self.answer_timeout if self.submit_deadline is None else self.submit_deadline

    @property
    def at_least_once(self) -> bool:
        """True if a lost submission is sent again where the vendor cannot be queried."""
        return self.on_lost_submit == "at_least_once"

    def named(self, name: str) -> Account:
        """Return a copy with that name."""
        copy = self.model_copy()
        copy._name = name
        return copy

    @model_validator(mode="after")
    def _verifiable(self) -> Account:
        if self.signature != "none" and not self.webhook_secrets:
            raise PydanticCustomError(
                UNMET,
                'needs webhook_secrets = ["whsec_..."]; or write "none"',
                {"field": "signature"},
            )
        return self


def idle(accounts: Mapping[str, Account]) -> Iterator[str]:
    """Yield a sentence for each setting of accounts that has no effect."""
    for name, account in accounts.items():
        if account.poll.policy == "fixed" and account.poll.max_missed_delay is not None:
            yield (
                f"accounts.{name}.poll.max_missed_delay has no effect with the policy "
                '"fixed": leave it away, or write policy = "adaptive"'
            )
