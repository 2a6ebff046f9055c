"""OpenAPI operations: parameters, request bodies and every response."""

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
from orchestrator.api.openapi.components import Components
from orchestrator.api.operation import JSON, Operation, ResponseSpec, declared_operation
from orchestrator.api.problems import CODES
from orchestrator.foundation.ids import pattern
from orchestrator.schemas import Problem
from orchestrator.schemas.base import Json
from orchestrator.schemas.example_values import IDS

_PROBLEM = "application/problem+json"
#: The prefix of ids, by the section of the path.
_PREFIXES = {
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
    """An operation, its path and method, and the scope it needs (None: no key)."""

    path: str
    method: str
    operation: Operation
    needs: Scope | None

    @property
    def section(self) -> str:
        """The first word of the path after the version."""
        parts = self.path.split("/")
        return parts[2] if parts[1] == "v1" else "service"

    @property
    def name(self) -> str:
        """`submit_job` for "Submit a job"."""
        words = re.findall(r"[a-z]+", self.operation.summary.lower().replace("'s", ""))
        return "_".join(word for word in words if word not in _ARTICLES)

    def codes(self) -> set[str]:
        """Return the codes of all problems it may return."""
        codes = {*self.operation.problems, "internal_error"}
        if self.needs is not None:
            codes |= {"unauthorized", "rate_limited", "unavailable"}
        if self.needs not in (None, Scope.READ):
            codes.add("insufficient_scope")
        if not self.operation.lenient:
            codes.add("validation_failed")
        if "{" in self.path:
            codes.add("not_found")
        if self.operation.body:
            codes |= {"not_json", "too_large", "unsupported_media_type"}
        return codes


def operation_routes(routes: Iterable[Route]) -> Iterator[OperationRoute]:
    """Yield every operation. Raises `TypeError` for a handler that is not declared."""
    for route in routes:
        endpoint = route.endpoint
        if not isinstance(endpoint, Endpoint):
            raise TypeError(f"{route.path} leads to no endpoint")
        for method, handler in endpoint.handlers.items():
            operation = declared_operation(handler)
            if operation is None:
                raise TypeError(f"{method} {route.path} is not declared")
            path = _PARAMETER.sub(r"{\1}", route.path)
            yield OperationRoute(path, method, operation, endpoint.needs(method))


def operation_object(route: OperationRoute, components: Components) -> Json:
    """Return an operation as the document describes it."""
    operation = route.operation
    described: Json = {
        "operationId": route.name,
        "tags": [route.section],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(operation, components),
            *_header_parameters(operation),
        ],
        "responses": {**_responses(route, components), **_problems(route)},
        "security": [] if route.needs is None else [{"key": [route.needs.value]}],
    }
    if operation.body is not None:
        schema, example = components.read(operation.body), examples.of(operation.body)
        described["requestBody"] = {
            "required": not operation.body_is_optional,
            "content": {operation.media_type: {"schema": schema, "example": example}},
        }
    return described


def _path_parameters(route: OperationRoute) -> Iterator[Json]:
    for name in _PARAMETER.findall(route.path):
        schema, example = _path_parameter(route.section, name)
        yield {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _path_parameter(section: str, name: str) -> tuple[Json, str | int]:
    if name == "n":
        return {"type": "integer", "minimum": 0}, 0
    if prefix := _PREFIXES.get(section):
        return {"type": "string", "pattern": f"^{pattern(prefix)}$"}, IDS[prefix]
    if name == "code":
        return {"type": "string", "enum": sorted(CODES)}, "not_found"
    return {"type": "string", "minLength": 1}, "main" if section == "accounts" else "docs.js"


def _query_parameters(operation: Operation, components: Components) -> Iterator[Json]:
    """Yield the query's parameters. A list is one text with commas."""
    if operation.query is None:
        return
    for name, schema in components.query(operation.query).items():
        text = {"description": schema.pop("description")} if "description" in schema else {}
        described = {"name": name, "in": "query", "required": False, **text, "schema": schema}
        is_list = schema.get("type") == "array"
        yield described | ({"style": "form", "explode": False} if is_list else {})


def _header_parameters(operation: Operation) -> Iterator[Json]:
    for name in (*operation.request_headers, "X-Request-Id"):
        yield {"$ref": f"#/components/parameters/{name}"}


def _responses(route: OperationRoute, components: Components) -> dict[str, Json]:
    return {
        str(status): _response(route, status, spec, components)
        for status, spec in route.operation.responses.items()
    }


def _response(
    route: OperationRoute, status: int | str, spec: ResponseSpec, components: Components
) -> Json:
    always = ["X-Request-Id"]
    if route.needs is not None:
        always += ["RateLimit-Policy", "RateLimit"]
    phrase = HTTPStatus(status).phrase if isinstance(status, int) else "Done"
    described: Json = {
        "description": spec.description or phrase,
        "headers": headers.references(*spec.headers, *always),
    }
    if spec.body is not None:
        content = {"schema": components.written(spec.body), "example": examples.of(spec.body)}
        described["content"] = {spec.media_type: content}
    elif spec.media_type != JSON:
        described["content"] = {spec.media_type: {"schema": {"type": "string"}}}
    return described


def _problems(route: OperationRoute) -> dict[str, Json]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in sorted(route.codes()):
        by_status[CODES[code].status].append(code)
    declared = {str(status) for status in route.operation.responses}
    return {
        str(status): _problem(codes, keyed=route.needs is not None)
        for status, codes in sorted(by_status.items())
        if str(status) not in declared
    }


def _problem(codes: list[str], *, keyed: bool) -> Json:
    if len(codes) == 1 and keyed:
        return {"$ref": f"#/components/responses/{codes[0]}"}
    return problem_object(codes, keyed=keyed)


def problem_object(codes: list[str], *, keyed: bool = True) -> Json:
    """Return the response for problems of one status."""
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
        "headers": headers.references(*names),
        "content": {_PROBLEM: {"schema": schema, "example": examples.problem(codes[0])}},
    }
