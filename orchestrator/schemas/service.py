"""What the service says of itself, and to vendors."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue, RootModel

from orchestrator.schemas.base import Shape


class Taken(Shape):
    """What a vendor hears of a push that is kept."""

    ok: Literal[True]


class PushRefusal(Shape):
    """What a vendor hears of a push that is not kept (RFC 9457)."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str


class OpenApi(RootModel[dict[str, JsonValue]]):
    """An OpenAPI document."""


class VendorAnswer(RootModel[JsonValue]):
    """What a vendor answered, as it said it."""


class Alive(Shape):
    """A process that answers."""

    status: Literal["ok"]


class Check(Shape):
    """One thing that a process needs."""

    name: str
    status: Literal["ok", "failing"]


class Readiness(Shape):
    """Whether a process can do its work."""

    status: Literal["ok", "unavailable"]
    checks: list[Check]
