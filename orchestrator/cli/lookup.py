"""One resource by its id, or by the beginning of an id that no other has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, TypeVar

from pydantic import BaseModel

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import one_line
from orchestrator.foundation.ids import begins_id, is_id
from orchestrator.schemas import (
    Account,
    ApiKey,
    Delivery,
    DestinationKind,
    Job,
    LoggedEvent,
    Page,
    Subscriber,
)

RowT = TypeVar("RowT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Kind(Generic[RowT]):
    """A list of resources: the prefix of their ids, a name, the path segment, the models."""

    prefix: str
    name: str
    plural: str
    model: type[RowT]
    page: type[Page[RowT]]

    @property
    def path(self) -> str:
        """The path of the list."""
        return f"/v1/{self.plural}"


JOB = Kind("job", "job", "jobs", Job, Page[Job])
EVENT = Kind("evt", "event", "events", LoggedEvent, Page[LoggedEvent])
SUBSCRIBER = Kind("sub", "subscriber", "subscribers", Subscriber, Page[Subscriber])
DELIVERY = Kind("dlv", "delivery", "deliveries", Delivery, Page[Delivery])
#: Accounts have names instead of ids.
ACCOUNT = Kind("", "account", "accounts", Account, Page[Account])
#: Kinds have names instead of ids.
DESTINATION = Kind("", "destination", "destinations", DestinationKind, Page[DestinationKind])
KEY = Kind("key", "key", "keys", ApiKey, Page[ApiKey])

_id = attrgetter("id")


def find(client: Client, kind: Kind[RowT], text: str) -> RowT:
    """Return the resource whose id is or begins with `text`, with or without its prefix.

    Raises `Failure` for none (exit 3) or several (exit 2).
    """
    given = _prefixed(kind, text)
    if is_id(given, kind.prefix):
        return client.get(kind.model, f"{kind.path}/{given}")
    return only(kind, text, lambda after: client.get(kind.page, kind.path, after=after, limit=2))


def only(kind: Kind[RowT], text: str, page: Callable[[str], Page[RowT]]) -> RowT:
    """Return the resource whose id begins with `text`; `page` lists two that follow a cursor.

    Raises `Failure` for none (exit 3) or several (exit 2).
    """
    given = _prefixed(kind, text)
    if not begins_id(given, kind.prefix):
        hint = f"they look like {kind.prefix}_01k..."
        raise Failure(f"{text} begins no {kind.name}'s id", code=Exit.NOT_FOUND, hint=hint)
    # Ids sort by time and lists are newest first: an id that begins so follows the last possible.
    rows = [row for row in page(given.ljust(30, "z")).data if _id(row).startswith(given)]
    if not rows:
        raise Failure(
            f"no {kind.name}'s id begins with {text}",
            code=Exit.NOT_FOUND,
            hint=f"`orchestrator {kind.plural} ls`",
        )
    if len(rows) > 1:
        raise Failure(
            f"several {kind.name}s' ids begin with {text}",
            code=Exit.USAGE,
            hint="\n".join(["give more of it:", *(one_line(_id(row)) for row in rows)]),
        )
    return rows[0]


def _prefixed(kind: Kind[RowT], text: str) -> str:
    return text if text.startswith(f"{kind.prefix}_") else f"{kind.prefix}_{text}"
