"""Responses about the service itself, and to vendors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue, RootModel

from orchestrator.schemas.base import Shape


class Taken(Shape):
    """The response to a push that is stored."""

    ok: Literal[True]


class PushRefusal(Shape):
    """The response to a push that is not stored (RFC 9457)."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str


class OpenApi(RootModel[dict[str, JsonValue]]):
    """An OpenAPI document."""


class VendorAnswer(RootModel[JsonValue]):
    """The response of a vendor, unchanged."""


class Alive(Shape):
    """The response of a live process."""

    status: Literal["ok"]


class Check(Shape):
    """One dependency of a process. `detail` says what is wrong, where that is known."""

    name: str
    status: Literal["ok", "failing"]
    detail: str | None = None


class Readiness(Shape):
    """Whether a process can serve."""

    status: Literal["ok", "unavailable"]
    checks: list[Check]
    settings_read_at: Annotated[
        AwareDatetime | None,
        Field(description="Changes of the settings after this wait for a restart."),
    ] = None
