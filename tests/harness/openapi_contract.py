"""Checks every response in tests against the OpenAPI document: status, type, headers and fields."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator

from orchestrator.api import endpoints
from orchestrator.api.openapi.document import document
from orchestrator.app import build
from orchestrator.foundation.settings import Settings
from orchestrator.schemas.example_values import BASE

Json = dict[str, Any]

#: Headers that the document does not describe.
_UNDOCUMENTED = {
    "allow", "cache-control", "connection", "content-length", "content-security-policy",
    "content-type", "date", "referrer-policy", "server", "transfer-encoding", "x-accel-buffering",
    "x-content-type-options",
}  # fmt: skip
#: Schemas with further fields than those described.
_OPEN = {"TimelineEntry"}
_PROBLEM = "application/problem+json"


async def check_response(response: httpx.Response) -> None:
    """Check a response: a hook for httpx clients that call a service."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        await response.aread()
    contract().check(response)


#: The `event_hooks` of a client whose responses are all checked.
CONTRACT_HOOKS = {"response": [check_response]}


@cache
def contract() -> Contract:
    """Return the contract. One for all services: their settings do not change the document."""
    settings = {
        "database_url": "sqlite:///nowhere.db",
        "secret_keys": ["k" * 32],
        "public_url": BASE,
        "accounts": {"main": {"vendor": "agentsflare", "api_key": "k"}},
    }
    runtime = build(Settings.model_validate(settings))
    return Contract(document(endpoints(runtime), runtime.base))


class Contract:
    """A document, and validators of responses by it. `components` have no unknown fields."""

    def __init__(self, document: Json) -> None:
        self.document = document
        schemas = document["components"]["schemas"].items()
        self.components = {
            "schemas": {
                name: schema if name in _OPEN else strict(schema) for name, schema in schemas
            }
        }
        # Fixed paths before those with parameters.
        ordered = sorted(document["paths"], key=lambda path: path.count("{"))
        self._paths = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), path) for path in ordered]
        self._validators: dict[tuple[str, str, str, str], Draft202012Validator] = {}

    def check(self, response: httpx.Response) -> None:
        """Fail unless the response is documented."""
        if response.status_code == HTTPStatus.IM_A_TEAPOT:
            # From the application behind a callback endpoint under test.
            return
        method, path = response.request.method, response.request.url.path
        template = next((text for pattern, text in self._paths if pattern.fullmatch(path)), "")
        methods = self.document["paths"].get(template, {})
        operation = methods.get({"HEAD": "get"}.get(method, method.lower()))
        where = f"{method} {path} {response.status_code}"
        if operation is None:
            # No such path or method: without a key it is 401 all the same.
            assert response.status_code in (401, 404, 405, 429, 503), where
            assert response.headers["content-type"] == _PROBLEM
            return
        documented = operation["responses"]
        exact, wildcard = str(response.status_code), f"{response.status_code // 100}XX"
        status = next((status for status in (exact, wildcard) if status in documented), "")
        assert status, f"{where} is not documented: {response.text if response.is_closed else ''}"
        spec = self._resolved(documented[status])
        headers = {name.lower() for name in spec.get("headers", {})}
        unknown = set(response.headers) - _UNDOCUMENTED - headers
        assert not unknown, f"{where}: the document has no header {unknown}"
        media = response.headers.get("content-type", "").partition(";")[0]
        content = spec.get("content", {})
        assert media in content or "*/*" in content or (not media and not content), (
            f"{where} is {media!r}"
        )
        if method != "HEAD" and media.endswith("json"):
            key = (template, method, status, media)
            self._validator(key, content[media]["schema"]).validate(response.json())

    def _resolved(self, spec: Json) -> Json:
        name = spec.get("$ref", "").rpartition("/")[2]
        resolved: Json = self.document["components"]["responses"][name] if name else spec
        return resolved

    def _validator(self, key: tuple[str, str, str, str], schema: Json) -> Draft202012Validator:
        if key not in self._validators:
            self._validators[key] = self.validator(schema)
        return self._validators[key]

    def validator(self, schema: Json) -> Draft202012Validator:
        """Return a validator of a schema of the document that refuses unknown fields."""
        whole = {**schema, "components": self.components}
        return Draft202012Validator(whole, validate_formats=True)


def strict(schema: Json) -> Json:
    """Return the schema of an object without unknown fields; other schemas unchanged."""
    named = "properties" in schema and "allOf" not in schema
    return {**schema, "additionalProperties": False} if named else schema
