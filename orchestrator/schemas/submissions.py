"""What an account takes, and what its vendor would get."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from orchestrator.foundation.states import Capability
from orchestrator.schemas.base import OpenEnum, Shape


class AccountInput(Shape):
    """The fields of an `input` that a dialect carries for one capability."""

    fields: Annotated[list[str], Field(description="Any other field is refused; `extra` is not.")]
    required: Annotated[
        list[str], Field(description="These must be given; `prompt|shots` means either.")
    ]
    exclusive: Annotated[
        list[list[str]], Field(description="Of each group, only one may be given.")
    ]


class VendorRequest(Shape):
    """The request that would submit a job, without credentials and tokens."""

    object: Literal["vendor_request"]
    account: str
    vendor: str
    model: str
    capability: Annotated[Capability, OpenEnum]
    is_known_model: Annotated[
        bool, Field(description="The vendor's documents name the model, or name none at all.")
    ]
    method: str
    url: str
    headers: Annotated[
        dict[str, str], Field(description="Those that may hold a credential are masked.")
    ]
    body: Annotated[JsonValue, Field(description="Null where the vendor takes no JSON.")]
