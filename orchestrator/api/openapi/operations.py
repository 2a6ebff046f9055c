"""The calls, one by one: where, what with, and everything that may be answered."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from starlette.routing import Route

from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.endpoint import Endpoint
from orchestrator.api.openapi import examples, headers
from orchestrator.api.openapi.components import Json, Schemas
from orchestrator.api.operation import JSON, Operation, ResponseSpec, declared
from orchestrator.api.problems import CODES
from orchestrator.foundation.ids import pattern
from orchestrator.schemas import Problem

_PROBLEM = "application/problem+json"
_KINDS = {
    "jobs": "job",
    "events": "evt",
    "subscribers": "sub",
    "deliveries": "dlv",
    "keys": "key",
    "replays": "rpl",
}
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class OperationRoute:
    """Where an operation is. `needs`: the scope it takes; None: not even a key."""

    path: str
    method: str
    operation: Operation
    needs: Scope | None

    @property
    def section(self) -> str:
        """What it is about: the first word of the path after the version."""
        parts = self.path.split("/")
        return parts[2] if parts[1] == "v1" else "service"

    @property
    def name(self) -> str:
        """`submit_job` for "Submit a job"."""
        words = re.findall(r"[a-z]+", self.operation.summary.lower().replace("'s", ""))
        return "_".join(word for word in words if word not in _ARTICLES)

    def codes(self) -> set[str]:
        """Return the codes of all problems there may be."""
        codes = {*self.operation.refuses, "internal_error"}
        if self.needs is not None:
            codes |= {"unauthorized", "rate_limited", "unavailable"}
        if self.needs not in (None, Scope.READ):
            codes.add("insufficient_scope")
        if not self.operation.lenient:
            codes.add("validation_failed")
        if "{" in self.path:
            codes.add("not_found")
        return codes | (
            {"not_json", "too_large", "unsupported_media_type"} if self.operation.body else set()
        )


def places(routes: Iterable[Route]) -> Iterator[OperationRoute]:
    """Yield every operation. Raises `TypeError` for a handler that was not declared to be one."""
    for route in routes:
        door = route.endpoint
        if not isinstance(door, Endpoint):
            raise TypeError(f"{route.path} leads to no door")
        for method, handler in door.handlers.items():
            known = declared(handler)
            if known is None:
                raise TypeError(f"{method} {route.path} is not declared")
            yield OperationRoute(
                _PARAMETER.sub(r"{\1}", route.path), method, known, door.needs(method)
            )


def described(place: OperationRoute, schemas: Schemas) -> Json:
    """Return one operation."""
    known = place.operation
    said: Json = {
        "operationId": place.name,
        "tags": [place.section],
        "summary": known.summary,
        "description": known.about,
        "parameters": [*_in_path(place), *_in_query(known, schemas), *_sent(place)],
        "responses": {**_answers(place, schemas), **_refusals(place)},
        "security": [] if place.needs is None else [{"key": [place.needs.value]}],
    }
    if known.body is not None:
        content = {
            known.media: {"schema": schemas.read(known.body), "example": examples.of(known.body)}
        }
        said["requestBody"] = {"required": not known.may_be_empty, "content": content}
    return said


def _in_path(place: OperationRoute) -> Iterator[Json]:
    for name in _PARAMETER.findall(place.path):
        schema, example = _parameter(place.section, name)
        yield {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _parameter(section: str, name: str) -> tuple[Json, str]:
    if prefix := _KINDS.get(section):
        return {"type": "string", "pattern": f"^{pattern(prefix)}$"}, examples.IDS[prefix]
    if name == "code":
        return {"type": "string", "enum": sorted(CODES)}, "not_found"
    return {"type": "string", "minLength": 1}, "main" if section == "accounts" else "docs.js"


def _in_query(known: Operation, schemas: Schemas) -> Iterator[Json]:
    """Yield the query's parameters. Lists are one text with commas; one that is left out is null to us alone."""
    if known.query is None:
        return
    for name, schema in schemas.query(known.query).items():
        about = {"description": schema.pop("description")} if "description" in schema else {}
        said = {"name": name, "in": "query", "required": False, **about, "schema": schema}
        yield said | ({"style": "form", "explode": False} if schema.get("type") == "array" else {})


def _sent(place: OperationRoute) -> Iterator[Json]:
    names = (*place.operation.takes, "X-Request-Id")
    yield from ({"$ref": f"#/components/parameters/{name}"} for name in names)


def _answers(place: OperationRoute, schemas: Schemas) -> dict[str, Json]:
    return {
        str(status): _answer(place, status, one, schemas)
        for status, one in place.operation.answers.items()
    }


def _answer(
    place: OperationRoute, status: int | str, answer: ResponseSpec, schemas: Schemas
) -> Json:
    always = (
        ["X-Request-Id"]
        if place.needs is None
        else ["X-Request-Id", "RateLimit-Policy", "RateLimit"]
    )
    phrase = HTTPStatus(status).phrase if isinstance(status, int) else "Done"
    said: Json = {
        "description": answer.says or phrase,
        "headers": headers.named(*answer.headers, *always),
    }
    if answer.body is not None:
        content = {"schema": schemas.written(answer.body), "example": examples.of(answer.body)}
        said["content"] = {answer.media: content}
    elif answer.media != JSON:
        said["content"] = {answer.media: {"schema": {"type": "string"}}}
    return said


def _refusals(place: OperationRoute) -> dict[str, Json]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in sorted(place.codes()):
        by_status[CODES[code].status].append(code)
    mine = {str(status) for status in place.operation.answers}
    found = {
        str(status): codes for status, codes in sorted(by_status.items()) if str(status) not in mine
    }
    return {
        status: _refusal(codes, keyed=place.needs is not None) for status, codes in found.items()
    }


def _refusal(codes: list[str], *, keyed: bool) -> Json:
    if len(codes) == 1 and keyed:
        return {"$ref": f"#/components/responses/{codes[0]}"}
    return refusal(codes, keyed=keyed)


def refusal(codes: list[str], *, keyed: bool = True) -> Json:
    """Return the answer with one status and any of some codes."""
    status = CODES[codes[0]].status
    names = ["X-Request-Id"]
    if keyed and status != HTTPStatus.UNAUTHORIZED:
        names += ["RateLimit-Policy", "RateLimit"]
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        names.append("Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        names.append("WWW-Authenticate")
    schema = {
        "$ref": f"#/components/schemas/{Problem.__name__}",
        "properties": {"code": {"enum": codes}},
    }
    return {
        "description": " ".join(f"`{code}`: {CODES[code].advice}" for code in codes),
        "headers": headers.named(*names),
        "content": {_PROBLEM: {"schema": schema, "example": examples.problem(codes[0])}},
    }
