"""Holds every answer that a test gets to the OpenAPI document: status, content type, headers, and each field."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator

from orchestrator.api import doors
from orchestrator.api.openapi.document import document
from orchestrator.api.openapi.examples import BASE
from orchestrator.app import build
from orchestrator.foundation.settings import Settings

Json = dict[str, Any]

#: Headers that say nothing of ours.
_PLAIN = {
    "allow", "cache-control", "connection", "content-length", "content-security-policy", "content-type", "date",
    "referrer-policy", "server", "transfer-encoding", "x-accel-buffering", "x-content-type-options",
}  # fmt: skip
#: What may say more than is written down.
_OPEN = {"TimelineEntry"}
_PROBLEM = "application/problem+json"


async def held(response: httpx.Response) -> None:
    """Check an answer: a hook for httpx clients that talk to a service."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        await response.aread()
    contract().check(response)


#: The `event_hooks` of a client every answer to which is checked.
HELD = {"response": [held]}


@cache
def contract() -> Contract:
    """Return the one of this process: services differ in their settings, and the document does not."""
    settings = {
        "database_url": "sqlite:///nowhere.db",
        "secret_keys": ["k" * 32],
        "public_url": BASE,
    }
    runtime = build(
        Settings.model_validate(
            settings | {"accounts": {"main": {"vendor": "agentsflare", "api_key": "k"}}}
        )
    )
    return Contract(document(doors(runtime), runtime.base))


class Contract:
    """A document, and what it takes to hold answers to it."""

    def __init__(self, said: Json) -> None:
        self.said = said
        schemas = said["components"]["schemas"].items()
        self._components = {
            "schemas": {name: one if name in _OPEN else strict(one) for name, one in schemas}
        }
        # Fixed paths before those with parameters.
        ordered = sorted(said["paths"], key=lambda path: path.count("{"))
        self._paths = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), path) for path in ordered]
        self._validators: dict[tuple[str, str, str, str], Draft202012Validator] = {}

    def check(self, response: httpx.Response) -> None:
        """Fail unless the answer is a documented one."""
        if response.status_code == HTTPStatus.IM_A_TEAPOT:
            # Of a stand-in, behind the vendors' door.
            return
        method, path = response.request.method, response.request.url.path
        place = next((one for pattern, one in self._paths if pattern.fullmatch(path)), None)
        item = self.said["paths"].get(place, {})
        known = item.get({"HEAD": "get"}.get(method, method.lower()))
        if known is None:
            # Nobody's path, or not with this method: whoever sends no key hears 401 all the same.
            assert response.status_code in (401, 404, 405, 429, 503), (
                method,
                path,
                response.status_code,
            )
            assert response.headers["content-type"] == _PROBLEM
            return
        where = f"{method} {path} {response.status_code}"
        answers = known["responses"]
        status = next(
            (
                one
                for one in (str(response.status_code), f"{response.status_code // 100}XX")
                if one in answers
            ),
            "",
        )
        assert status, f"{where} is not documented: {response.text if response.is_closed else ''}"
        answer = self._resolved(answers[status])
        unknown = (
            set(response.headers) - _PLAIN - {name.lower() for name in answer.get("headers", {})}
        )
        assert not unknown, f"{where}: the document knows no header {unknown}"
        media = response.headers.get("content-type", "").partition(";")[0]
        documented = answer.get("content", {})
        assert media in documented or "*/*" in documented or (not media and not documented), (
            f"{where} is {media!r}"
        )
        if method != "HEAD" and media.endswith("json"):
            self._validator(
                str(place), method, status, media, documented[media]["schema"]
            ).validate(response.json())

    def _resolved(self, said: Json) -> Json:
        name = said.get("$ref", "").rpartition("/")[2]
        found: Json = self.said["components"]["responses"][name] if name else said
        return found

    def _validator(
        self, path: str, method: str, status: str, media: str, schema: Json
    ) -> Draft202012Validator:
        key = (path, method, status, media)
        if key not in self._validators:
            whole = {**schema, "components": self._components}
            self._validators[key] = Draft202012Validator(whole, validate_formats=True)
        return self._validators[key]


def strict(schema: Json) -> Json:
    """Return a schema of an object that takes no field that it does not name; others as they are."""
    named = "properties" in schema and "allOf" not in schema
    return {**schema, "additionalProperties": False} if named else schema
