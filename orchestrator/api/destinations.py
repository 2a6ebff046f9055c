"""Kinds of destinations: what a subscriber of each may have."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, page_of
from orchestrator.events.destinations import Destination, Option
from orchestrator.foundation import extras
from orchestrator.schemas.base import Json


class DestinationQuery(PageRequest):
    """`GET /v1/destinations`: sorted by kind, so a kind is the cursor."""

    prefix = ""

    @classmethod
    def is_cursor(cls, value: str) -> bool:
        """True for any text that could be a kind."""
        return 1 <= len(value) <= 64


@operation(
    "List kinds of destinations",
    responses={200: returns(schemas.Page[schemas.DestinationKind], "Link")},
)
async def ls(context: RequestContext, query: DestinationQuery) -> Response:
    """By name; a kind is the cursor."""
    kinds = context.runtime.destinations
    names = sorted(kind for kind in kinds if query.after is None or kind > query.after)
    page = [kinds[kind] for kind in names[: query.limit + 1]]
    return page_of(context, page, query, destination_json, cursor="kind")


def destination_json(destination: Destination) -> Json:
    """Return a kind as JSON."""
    return {
        "object": "destination",
        "kind": destination.kind,
        "example": destination.example,
        "schemes": list(destination.schemes),
        "signed": destination.signed,
        "secret_address": destination.secret_address,
        "options": _options(destination.options),
        "credentials": _options(destination.credentials),
        "max_in_flight": destination.max_in_flight,
        "extra": destination.extra or None,
        "installed": not destination.extra or extras.is_installed(destination.extra),
        "origin": "built-in",
    }


def _options(declared: Mapping[str, Option]) -> Json:
    return {
        name: {
            "description": option.description,
            "required": option.required,
            "choices": list(option.choices),
            "pattern": None if option.choices else option.pattern,
        }
        for name, option in declared.items()
    }
