"""The OpenAPI document describes every operation, response and event, and no others."""

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
from jsonschema_rs import ValidationError
from openapi_spec_validator import validate
from standardwebhooks import Webhook as Verifier
from starlette.routing import Route

import orchestrator
from orchestrator.api import endpoints
from orchestrator.api.endpoint import Endpoint, RequestContext
from orchestrator.api.openapi import document as document_module
from orchestrator.api.openapi import examples
from orchestrator.api.openapi.document import document
from orchestrator.api.problems import CODES, Refusal
from orchestrator.events.destinations import Message, Target
from orchestrator.events.destinations.webhook import Webhook
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.signing.standard_webhooks import new_secret
from orchestrator.foundation.states import EventType
from orchestrator.schemas.example_values import BASE, IDS
from orchestrator.schemas.jobs import JOB_EXAMPLE
from tests.api.test_support import calling
from tests.harness.openapi_contract import contract

KEYWORDS = {
    "$ref", "additionalProperties", "allOf", "anyOf", "const", "contentMediaType", "default",
    "description", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems",
    "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minimum", "pattern",
    "properties", "propertyNames", "required", "type",
}  # fmt: skip
CALLBACKS = "/callbacks/{account}/{token}"
JOB = f"/v1/jobs/{IDS['job']}"


def walk(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every object in the document, and where it is."""
    if isinstance(node, dict):
        yield where, node
        children = list(node.items())
    else:
        children = list(enumerate(node)) if isinstance(node, list) else []
    for key, child in children:
        yield from walk(child, f"{where}/{key}")


def operations() -> dict[str, Any]:
    """Return every operation of the document by method and path, webhooks by their type."""
    calls = {
        f"{method.upper()} {path}": operation
        for path, methods in contract().document["paths"].items()
        for method, operation in methods.items()
    }
    return calls | {kind: item["post"] for kind, item in contract().document["webhooks"].items()}


def test_the_document_is_valid_openapi() -> None:
    validate(contract().document)


async def test_the_document_has_every_route_and_method_and_no_others(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        routes = endpoints(api.runtime)
    served = {
        f"{method} {route.path.replace(':path', '')}"
        for route in routes
        if isinstance(route.endpoint, Endpoint)
        for method in route.endpoint.handlers
    }
    assert {name for name in operations() if " " in name} == {*served, f"POST {CALLBACKS}"}


def test_operations_have_unique_ids_and_descriptions() -> None:
    all_operations = operations().values()
    assert len({item["operationId"] for item in all_operations}) == len(all_operations)
    assert {tag for item in all_operations for tag in item["tags"]} == {
        tag["name"] for tag in contract().document["tags"]
    }
    assert [
        item["operationId"]
        for item in all_operations
        if not (item["summary"] and item["description"])
    ] == []


def test_an_undeclared_handler_is_refused() -> None:
    async def handler(call: RequestContext) -> Any:
        raise NotImplementedError

    class Bare(Endpoint):
        def __init__(self) -> None:
            self.handlers = {"GET": handler}

    with pytest.raises(TypeError, match="GET /x is not declared"):
        document([Route("/x", Bare())], BASE)


def test_operations_that_need_a_key_are_marked() -> None:
    """Each says that it needs a key, and documents the response without one."""
    for where, item in operations().items():
        keyed = where.partition(" ")[2].startswith("/v1/")
        assert bool(item["security"]) == keyed, where
        assert ("401" in item["responses"]) == (keyed or where.endswith(CALLBACKS)), where


def test_every_example_has_the_fields_of_its_schema_and_no_others() -> None:
    """Examples of resources are made by their writers: model, writer and example agree."""
    wrong = dict[str, str]()
    for where, node in walk(contract().document):
        if "example" in node and "schema" in node:
            schema, example = node["schema"], node["example"]
            is_list = schema.get("type") == "array"
            try:
                contract().validator(schema).validate([example] if is_list else example)
            except ValidationError as error:
                wrong[where] = str(error)
    assert wrong == {}


def test_schemas_use_only_keywords_of_json_schema() -> None:
    """A constraint under another name would be ignored."""
    schemas = [
        item
        for where, item in walk(contract().document)
        if re.search(r"(/schema|/schemas/\w+|/items|/anyOf/\d|/properties/\w+)$", where)
    ]
    used = {word for item in schemas for word in item}
    assert used - KEYWORDS == set()


def test_every_body_has_an_example() -> None:
    bodies = [
        (where, item)
        for where, item in walk(contract().document)
        for item in item.get("content", {}).values()
    ]
    assert [
        where for where, item in bodies if item["schema"].get("$ref") and "example" not in item
    ] == []


@pytest.mark.parametrize("kind", EventType)
def test_every_type_of_event_has_a_webhook_whose_example_verifies(kind: EventType) -> None:
    node = contract().document["webhooks"][kind]["post"]
    event = node["requestBody"]["content"]["application/json"]["example"]
    body, secret = json.dumps(event).encode(), new_secret()
    message = Message(event["id"], kind, body, SystemClock().now())
    request = Webhook().request(Target("https://my.app/hook", [secret]), message)
    sent = {item["name"] for item in node["parameters"]}
    assert sent == {name for name in request.headers if name.startswith("webhook-")}
    assert Verifier(secret).verify(request.content, dict(request.headers)) == event


def test_the_stream_describes_its_events() -> None:
    node = contract().document["paths"]["/v1/events/stream"]["get"]["responses"]["200"]["content"][
        "text/event-stream"
    ]
    assert set(node["x-sse-events"]) == {*EventType, "stream.gap"}
    (data,) = re.findall(r"^data: (.+)$", node["example"], re.MULTILINE)
    (kind,) = re.findall(r"^event: (.+)$", node["example"], re.MULTILINE)
    contract().validator(node["x-sse-events"][kind]).validate(json.loads(data))


def test_the_schema_of_a_webhook_refuses_other_types() -> None:
    schema = contract().document["webhooks"]["job.failed"]["post"]["requestBody"]["content"][
        "application/json"
    ]["schema"]
    contract().validator(schema).validate(examples.event("job.failed"))
    for wrong in (examples.event("job.succeeded"), {**examples.event("job.failed"), "data": {}}):
        with pytest.raises(ValidationError):
            contract().validator(schema).validate(wrong)


def test_every_code_in_the_source_is_documented() -> None:
    """Codes of the classes, and codes given to them in the source."""
    kinds: list[type[Problem]] = [Problem, *Problem.__subclasses__()]
    raised = {item.code for item in kinds}
    texts = (path.read_text("utf-8") for path in Path(orchestrator.__file__).parent.rglob("*.py"))
    # Parsing takes longer than everything else.
    for text in (text for text in texts if any(f"{kind.__name__}(" in text for kind in kinds)):
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {k.__name__ for k in kinds}
            ):
                given = [item.value for item in node.keywords if item.arg == "code"]
                if node.func.id == Refusal.__name__:
                    given += node.args[:1]
                raised |= {
                    item.value
                    for item in given
                    if isinstance(item, ast.Constant) and isinstance(item.value, str)
                }
    assert raised == set(CODES)
    assert set(contract().document["components"]["responses"]) == set(CODES)


async def test_the_document_is_public_and_cacheable(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        served = await api.http.get("/openapi.json", headers={"authorization": ""})
        assert served.json()["servers"] == [{"url": api.runtime.base}]
        assert served.json() == document(endpoints(api.runtime), api.runtime.base)
        tag = served.headers["etag"]
        again = await api.http.get("/openapi.json", headers={"if-none-match": f'"x", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
        head = await api.http.head("/openapi.json")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(served.content)))


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, {**JOB_EXAMPLE, "surprise": 1}, {}),
        (200, {name: item for name, item in JOB_EXAMPLE.items() if name != "links"}, {}),
        (200, {**JOB_EXAMPLE, "created_at": "yesterday"}, {}),
        (200, {**JOB_EXAMPLE, "status": "done"}, {}),
        (200, JOB_EXAMPLE, {"x-surprise": "1"}),
        (200, JOB_EXAMPLE, {"content-type": "text/plain"}),
        (201, JOB_EXAMPLE, {}),
        (404, examples.problem("conflict"), {"content-type": "application/problem+json"}),
        (404, examples.problem("not_found"), {}),
    ],
)
def test_the_contract_refuses_undocumented_responses(
    status: int, body: Any, headers: dict[str, str]
) -> None:
    def response(status: int, body: Any, headers: dict[str, str]) -> httpx.Response:
        request = httpx.Request("GET", f"http://api{JOB}")
        return httpx.Response(status, json=body, headers=headers, request=request)

    contract().check(response(200, JOB_EXAMPLE, {"etag": '"v3"'}))
    with pytest.raises((AssertionError, ValidationError)):
        contract().check(response(status, body, headers))


async def test_the_document_is_written_once_and_on_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing it takes a fifth of a second: pushes and deliveries must not wait for it."""
    threads: list[threading.Thread] = []

    def write(*given: Any) -> Any:
        threads.append(threading.current_thread())
        return document(*given)

    monkeypatch.setattr(document_module, "document", write)
    async with calling(tmp_path) as api:
        item, other = await asyncio.gather(*(api.http.get("/openapi.json") for _ in range(2)))
        assert item.content == other.content
    (thread,) = threads
    assert thread is not threading.main_thread()
