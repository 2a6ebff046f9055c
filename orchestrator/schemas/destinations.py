"""Kinds of destinations: the models, and an example."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.schemas.base import Json, Shape


class DestinationOption(Shape):
    """An option or a credential of a kind: one of `choices`, or a text that matches `pattern`."""

    description: str
    required: bool
    choices: Annotated[list[str], Field(description="The first is the default; empty: any text.")]
    pattern: Annotated[str | None, Field(description="Of the whole text; null with `choices`.")]


class DestinationKind(Shape):
    """A kind of address that subscribers may have."""

    object: Literal["destination"]
    kind: str
    example: Annotated[str, Field(description="An address of this kind.")]
    schemes: list[str]
    signed: Annotated[bool, Field(description="Its subscribers have a signing secret.")]
    secret_address: Annotated[
        bool, Field(description="The address is a credential itself, and is shown in part.")
    ]
    options: dict[str, DestinationOption]
    credentials: dict[str, DestinationOption]
    max_in_flight: Annotated[int, Field(description="Deliveries at once, by default.")]
    extra: Annotated[
        str | None,
        Field(description="The extra that brings its library: `pip install 'orchestrator[EXTRA]'`"),
    ]
    installed: Annotated[bool, Field(description="The library is there, or none is needed.")]
    origin: Annotated[str, Field(description="`built-in`, or the distribution of a plug-in.")]


DESTINATION_EXAMPLE: Json = {
    "object": "destination",
    "kind": "webhook",
    "example": "https://example.com/hook",
    "schemes": ["https", "http"],
    "signed": True,
    "secret_address": False,
    "options": {
        "format": {
            "description": "The form of the body.", "required": False,
            "choices": ["standard", "cloudevents"], "pattern": None,
        }
    },
    "credentials": {},
    "max_in_flight": 8,
    "extra": None,
    "installed": True,
    "origin": "built-in",
}  # fmt: skip
