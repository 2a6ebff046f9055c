"""Pushes of vendors as they were received: columns, the model, its writer and an example."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal, TypedDict

from pydantic import AwareDatetime, Field

from orchestrator.schemas.base import Json, Shape, rfc3339_or_none
from orchestrator.schemas.example_values import FINISHED, IDS


class PushColumns(TypedDict):
    """The columns of `push` that `push_json` reads. A whole row has them too."""

    id: str
    account: str
    job_id: str
    attempt: int
    received_at: datetime
    verified: bool
    headers: dict[str, str]
    body: bytes
    outcome: str
    copies: int


class Push(Shape):
    """A push as it was received. Tokens and signatures in it are masked."""

    id: str
    object: Literal["push"]
    job: str
    account: str
    received_at: AwareDatetime
    attempt: Annotated[int, Field(description="The attempt at submitting that it is about.")]
    verified: Annotated[bool, Field(description="Its signature was checked, and was right.")]
    outcome: Annotated[str, Field(description="What became of it; `rejected: ...` says why.")]
    copies: Annotated[int, Field(description="How often the same push came.")]
    headers: dict[str, str]
    body: Annotated[str, Field(description="Read as UTF-8.")]
    bytes: int


def push_json(row: PushColumns, mask: Callable[[str, str], str]) -> Json:
    """Return a push as JSON. `mask` returns a text, which has a name, without its secrets."""
    return {
        "id": row["id"],
        "object": "push",
        "job": row["job_id"],
        "account": row["account"],
        "received_at": rfc3339_or_none(row["received_at"]),
        "attempt": row["attempt"],
        "verified": row["verified"],
        "outcome": row["outcome"],
        "copies": row["copies"],
        "headers": {name: mask(text, name) for name, text in row["headers"].items()},
        "body": mask(row["body"].decode("utf-8", "replace"), ""),
        "bytes": len(row["body"]),
    }


_PUSH: PushColumns = {
    "id": IDS["job"].replace("job_", "psh_"), "account": "main", "job_id": IDS["job"], "attempt": 1,
    "received_at": FINISHED, "verified": True, "headers": {"content-type": "application/json"},
    "body": b'{"task_id":"90193357","task_status":"succeed"}', "outcome": "applied", "copies": 1,
}  # fmt: skip
PUSH_EXAMPLE = push_json(_PUSH, lambda text, name: text)
