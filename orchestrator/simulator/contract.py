"""The parts of a dialect: endpoints that accept submissions, and endpoints that answer queries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from orchestrator.simulator.errors import ErrorKind, ErrorReply
from orchestrator.simulator.json_body import JSON, JsonObject, object_at
from orchestrator.simulator.records import Snapshot
from orchestrator.simulator.schema import Check
from orchestrator.simulator.task_ids import TaskIds


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """Path and query parameters of a status query, and two ways to look a render up."""

    path: Mapping[str, str]
    args: Mapping[str, str]
    by_task_id: Callable[[str], Snapshot | None]
    by_external_id: Callable[[str], Snapshot | None]


Rules: TypeAlias = Callable[[JsonObject, Mapping[str, str]], Iterator[str]]


def no_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """The rules of a document that has none beyond its fields."""
    yield from ()


@dataclass(frozen=True, slots=True)
class SubmitEndpoint:
    """An endpoint that accepts submissions.

    `callback_field` names the object in the body that carries callback URL and external id; None
    if they stand at the top level. `rules` get a body that passed `check`, and the path parameters.
    """

    path: str
    name: str
    check: Check
    capability: Callable[[JsonObject], str]
    response: Callable[[Snapshot], JSON]
    push_body: Callable[[Snapshot], JSON | None]
    callback_field: str | None = None
    rules: Rules = no_rules
    models: frozenset[str] | None = None
    accepts_jwt: bool = False

    def callback_in(self, body: JsonObject) -> JsonObject:
        """Return the object that carries callback URL and external id."""
        return object_at(body, self.callback_field) if self.callback_field else body


@dataclass(frozen=True, slots=True)
class QueryEndpoint:
    """An endpoint that answers status queries, and the query parameters it accepts."""

    path: str
    response: Callable[[StatusQuery], JSON]
    args: frozenset[str] = frozenset()
    accepts_jwt: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor, as its document describes it. `path_values` fixes path parameters.

    `content_path` serves a clip to the holder of the key. `states_content`: answers have its URL.
    """

    mount: str
    submit_endpoints: tuple[SubmitEndpoint, ...]
    query_endpoints: tuple[QueryEndpoint, ...]
    new_ids: Callable[[random.Random], TaskIds]
    error_reply: Callable[[ErrorKind, str], ErrorReply]
    unique_external_ids: bool = False
    upload_path: str | None = None
    content_path: str | None = None
    states_content: bool = False
    path_values: Mapping[str, str] = field(default_factory=dict)
