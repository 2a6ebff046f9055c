"""The OpenAPI document says what there is, all of it and nothing else."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema_rs import Draft202012Validator, ValidationError
from openapi_spec_validator import validate
from standardwebhooks import Webhook as Verifier
from starlette.routing import Route

import orchestrator
from orchestrator.api import doors
from orchestrator.api.endpoint import Endpoint, RequestContext
from orchestrator.api.openapi import document as writer
from orchestrator.api.openapi import examples
from orchestrator.api.openapi.document import document
from orchestrator.api.problems import CODES
from orchestrator.events.destinations import Message
from orchestrator.events.destinations.webhook import Webhook
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.signing.standard_webhooks import new_secret
from orchestrator.foundation.states import EventType
from tests.api.test_support import calling
from tests.harness.openapi_contract import contract

SAID = contract().said
WORDS = {
    "$ref", "additionalProperties", "allOf", "anyOf", "const", "contentMediaType", "default", "description", "enum",
    "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum",
    "minItems", "minLength", "minimum", "pattern", "properties", "propertyNames", "required", "type",
}  # fmt: skip
PUSH = "/callbacks/{account}/{token}"
JOB = f"/v1/jobs/{examples.IDS['job']}"


def whole(schema: Any) -> Draft202012Validator:
    """Return a validator of a schema of the document."""
    return Draft202012Validator({**schema, "components": SAID["components"]}, validate_formats=True)


def walked(said: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every object in the document, and where it is."""
    if isinstance(said, dict):
        yield where, said
    items = (
        said.items()
        if isinstance(said, dict)
        else enumerate(said)
        if isinstance(said, list)
        else ()
    )
    for key, one in items:
        yield from walked(one, f"{where}/{key}")


def operations() -> dict[str, Any]:
    """Return every operation of the document by method and path, webhooks by their type."""
    calls = {
        f"{method.upper()} {path}": one
        for path, item in SAID["paths"].items()
        for method, one in item.items()
    }
    return calls | {kind: item["post"] for kind, item in SAID["webhooks"].items()}


def test_it_is_openapi() -> None:
    validate(SAID)


async def test_it_has_every_route_with_every_method_and_no_others(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = [(one.path.replace(":path", ""), one.endpoint) for one in doors(api.runtime)]
    served = {
        f"{method} {path}"
        for path, door in made
        if isinstance(door, Endpoint)
        for method in door.handlers
    }
    assert {one for one in operations() if " " in one} == {*served, f"POST {PUSH}"}


def test_operations_are_told_apart_and_told_about() -> None:
    known = operations().values()
    assert len({one["operationId"] for one in known}) == len(known)
    assert {tag for one in known for tag in one["tags"]} == {tag["name"] for tag in SAID["tags"]}
    assert [
        one["operationId"] for one in known if not (one["summary"] and one["description"])
    ] == []


def test_a_handler_that_is_not_declared_has_no_place_in_it() -> None:
    async def handler(call: RequestContext) -> Any:
        raise NotImplementedError

    class Bare(Endpoint):
        def __init__(self) -> None:
            self.handlers = {"GET": handler}

    with pytest.raises(TypeError, match="GET /x is not declared"):
        document([Route("/x", Bare())], examples.BASE)


def test_no_two_kinds_of_calls_are_mixed_up() -> None:
    """Everything that takes a key says so, and what it may answer without one."""
    for where, one in operations().items():
        keyed = where.partition(" ")[2].startswith("/v1/")
        assert bool(one["security"]) == keyed, where
        assert ("401" in one["responses"]) == (keyed or where.endswith(PUSH)), where


@pytest.mark.parametrize(
    ("where", "said"),
    [
        pytest.param(where, said, id=where)
        for where, said in walked(SAID)
        if "example" in said and "schema" in said
    ],
)
def test_every_example_is_one(where: str, said: Any) -> None:
    example = said["example"]
    whole(said["schema"]).validate([example] if said["schema"].get("type") == "array" else example)


def test_schemas_use_only_words_that_json_schema_has() -> None:
    """A constraint under another name is none."""
    told = [
        one
        for where, one in walked(SAID)
        if re.search(r"(/schema|/schemas/\w+|/items|/anyOf/\d|/properties/\w+)$", where)
    ]
    used = {word for one in told for word in one}
    assert used - WORDS == set()


def test_every_body_has_an_example() -> None:
    bodies = [
        (where, one) for where, item in walked(SAID) for one in item.get("content", {}).values()
    ]
    assert [
        where for where, one in bodies if one["schema"].get("$ref") and "example" not in one
    ] == []


@pytest.mark.parametrize("kind", EventType)
def test_every_type_of_event_has_a_webhook_whose_example_verifies(kind: EventType) -> None:
    said = SAID["webhooks"][kind]["post"]
    event = said["requestBody"]["content"]["application/json"]["example"]
    body, secret = json.dumps(event).encode(), new_secret()
    message = Message(event["id"], kind, body, SystemClock().now())
    request = Webhook().request("https://my.app/hook", message, [secret])
    sent = {one["name"] for one in said["parameters"]}
    assert sent == {name for name in request.headers if name.startswith("webhook-")}
    assert Verifier(secret).verify(request.content, dict(request.headers)) == event


def test_the_stream_says_what_it_carries() -> None:
    said = SAID["paths"]["/v1/events/stream"]["get"]["responses"]["200"]["content"][
        "text/event-stream"
    ]
    assert set(said["x-sse-events"]) == {*EventType, "stream.gap"}
    (data,) = re.findall(r"^data: (.+)$", said["example"], re.MULTILINE)
    (kind,) = re.findall(r"^event: (.+)$", said["example"], re.MULTILINE)
    whole(said["x-sse-events"][kind]).validate(json.loads(data))


def test_a_webhook_of_another_type_is_not_one() -> None:
    schema = SAID["webhooks"]["job.failed"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    whole(schema).validate(examples.event("job.failed"))
    for wrong in (examples.event("job.succeeded"), {**examples.event("job.failed"), "data": {}}):
        with pytest.raises(ValidationError):
            whole(schema).validate(wrong)


def test_the_document_and_its_pages_know_every_code_that_is_answered() -> None:
    """Found in the source: the classes' own, and those that are given where one is made."""
    kinds: list[type[Problem]] = [Problem, *Problem.__subclasses__()]
    raised = {one.code for one in kinds}
    for path in Path(orchestrator.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {k.__name__ for k in kinds}
            ):
                given = [one.value for one in node.keywords if one.arg == "code"]
                raised |= {
                    one.value
                    for one in given
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    assert raised == set(CODES)
    assert set(SAID["components"]["responses"]) == set(CODES)


async def test_it_is_served_to_anybody_and_not_twice_to_the_same(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        answer = await api.http.get("/openapi.json", headers={"authorization": ""})
        assert answer.json()["servers"] == [{"url": api.runtime.base}]
        assert answer.json() == document(doors(api.runtime), api.runtime.base)
        tag = answer.headers["etag"]
        again = await api.http.get("/openapi.json", headers={"if-none-match": f'"x", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
        head = await api.http.head("/openapi.json")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(answer.content)))


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, {**examples.JOB, "surprise": 1}, {}),
        (200, {name: one for name, one in examples.JOB.items() if name != "links"}, {}),
        (200, {**examples.JOB, "created_at": "yesterday"}, {}),
        (200, {**examples.JOB, "status": "done"}, {}),
        (200, examples.JOB, {"x-surprise": "1"}),
        (200, examples.JOB, {"content-type": "text/plain"}),
        (201, examples.JOB, {}),
        (404, examples.problem("conflict"), {"content-type": "application/problem+json"}),
        (404, examples.problem("not_found"), {}),
    ],
)
def test_answers_in_tests_are_held_to_it(status: int, body: Any, headers: dict[str, str]) -> None:
    def answered(status: int, body: Any, headers: dict[str, str]) -> httpx.Response:
        request = httpx.Request("GET", f"http://api{JOB}")
        return httpx.Response(status, json=body, headers=headers, request=request)

    contract().check(answered(200, examples.JOB, {"etag": '"v3"'}))
    with pytest.raises((AssertionError, ValidationError)):
        contract().check(answered(status, body, headers))


async def test_it_is_written_once_and_not_where_everything_else_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write it takes a fifth of a second: pushes and deliveries go on meanwhile."""
    threads: list[threading.Thread] = []

    def write(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return document(*given)

    monkeypatch.setattr(writer, "document", write)
    async with calling(tmp_path) as api:
        one, other = await asyncio.gather(*(api.http.get("/openapi.json") for _ in range(2)))
        assert one.content == other.content
    (thread,) = threads
    assert thread is not threading.main_thread()
