"""One thing by its id, or by a beginning of its id that nothing else has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record
from orchestrator.foundation.ids import is_id


@dataclass(frozen=True, slots=True)
class Kind:
    """A list of things with ids of one prefix: where it is, what one of them is called, what lists them."""

    prefix: str
    path: str
    name: str
    lister: str


JOB = Kind("job", "/v1/jobs", "job", "orchestrator jobs ls")
EVENT = Kind("evt", "/v1/events", "event", "orchestrator events ls")
SUBSCRIBER = Kind("sub", "/v1/subscribers", "subscriber", "orchestrator subscribers ls")
DELIVERY = Kind("dlv", "/v1/deliveries", "delivery", "orchestrator deliveries ls")


def find(client: Client, kind: Kind, text: str) -> Record:
    """Return the one thing whose id is or begins with `text`, its prefix left away or not.

    Raises `Failure` for none (exit 3) or several (exit 2).
    """
    given = text if text.startswith(f"{kind.prefix}_") else f"{kind.prefix}_{text}"
    if is_id(given, kind.prefix):
        found: Record = client.get(f"{kind.path}/{given}")
        return found
    if not re.fullmatch(rf"{kind.prefix}_[0-7][0-9a-hjkmnp-tv-z]{{0,25}}", given):
        hint = f"they look like {kind.prefix}_01k..."
        raise Failure(f"{text} begins no {kind.name}'s id", code=Exit.NOT_FOUND, hint=hint)
    # Ids sort by time and lists are newest first: what follows the last possible id with this beginning has it.
    some = client.get(kind.path, after=given.ljust(30, "z"), limit=2)["data"]
    matching: list[Record] = [one for one in some if one["id"].startswith(given)]
    if not matching:
        raise Failure(
            f"no {kind.name}'s id begins with {text}", code=Exit.NOT_FOUND, hint=f"`{kind.lister}`"
        )
    if len(matching) > 1:
        ids = "\n  ".join(one["id"] for one in matching)
        raise Failure(
            f"several {kind.name}s' ids begin with {text}",
            code=Exit.USAGE,
            hint=f"give more of it:\n  {ids}",
        )
    return matching[0]
