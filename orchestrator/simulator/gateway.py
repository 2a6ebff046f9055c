"""The HTTP doors of one vendor: strict about every request, and answering in the vendor's own words."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router

from orchestrator.simulator.dialect import (
    Answer,
    Ask,
    Dialect,
    Entrance,
    Inquiry,
    Keys,
    Refusal,
    Trouble,
    key_trouble,
)
from orchestrator.simulator.render import Render, Violation
from orchestrator.simulator.shapes import JSON, JsonObject
from orchestrator.simulator.studio import Studio, inside

MAX_BODY: Final = 32 * 1024 * 1024
UPLOAD_FIELDS: Final = frozenset({"kind", "purpose", "file"})
Abort = Callable[[tuple[str, int]], Awaitable[None]]
Door = Callable[[Request], Awaitable[Answer]]


class Gateway:
    """One vendor behind HTTP. `abort` resets a client's connection; what callers do wrong is put in `violations`."""

    def __init__(
        self,
        dialect: Dialect,
        keys: Keys,
        studio: Studio,
        violations: list[Violation],
        abort: Abort,
    ) -> None:
        self.dialect = dialect
        self.studio = studio
        self._keys = keys
        self._violations = violations
        self._abort = abort

    def mount(self) -> BaseRoute:
        """Every path of the document, and no other, under the vendor's prefix."""
        routes = [
            self._route(door.path, "POST", partial(self._submit, door))
            for door in self.dialect.entrances
        ]
        routes += [
            self._route(door.path, "GET", partial(self._inquire, door))
            for door in self.dialect.inquiries
        ]
        if self.dialect.upload:
            routes.append(self._route(self.dialect.upload, "POST", self._upload))
        return Mount("/" + self.dialect.mount, app=Router(routes, redirect_slashes=False))

    def stray(self, path: str, status: int) -> Response:
        """The answer to a path or method the document does not have."""
        trouble = Trouble.NO_METHOD if status == 405 else Trouble.NO_ROUTE
        return self._refuse(path, Refusal(trouble, blame=True))

    def _route(self, path: str, method: str, door: Door) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                answer = await door(request)
            except Refusal as refusal:
                return self._refuse(request.url.path, refusal)
            return JSONResponse(answer.body, answer.status)

        return Route(path, endpoint, methods=[method])

    def _refuse(self, path: str, refusal: Refusal) -> Response:
        if refusal.blame:
            what = refusal.message or refusal.trouble.name.lower()
            self._violations.append(Violation(self.dialect.mount, path, what))
        answer = self.dialect.trouble(refusal.trouble, refusal.message)
        return JSONResponse(answer.body, answer.status)

    async def _submit(self, entrance: Entrance, request: Request) -> Answer:
        self._admit(request, entrance.takes_jwt)
        body = self._checked(entrance, await self._json(request), request.path_params)
        self._gate(entrance, body)
        render = self.studio.accept(entrance, body, model_of(body, request.path_params))
        receipt = entrance.receipt(self.studio.sight(render, "submit"))
        await self._start(render, entrance)
        if self._strikes("submit", "server_error_accepted"):
            raise Refusal(Trouble.TIMEOUT)
        if self._strikes("submit", "cut_answer"):
            await self._cut(request)
        return Answer(200, {} if self._strikes("submit", "empty_answer") else receipt)

    async def _start(self, render: Render, entrance: Entrance) -> None:
        if self._strikes("submit", "push_before_answer"):
            await self.studio.rush(render, entrance)
        else:
            self.studio.begin(render, entrance)

    def _gate(self, entrance: Entrance, body: JsonObject) -> None:
        """Refuse a good body for reasons of the vendor's own."""
        if self._strikes("submit", "server_error"):
            raise Refusal(Trouble.BROKEN)
        external = (inside(body, entrance.hooks) if entrance.hooks else body).get(
            "external_task_id"
        )
        if self.dialect.unique_external_ids and external in self.studio.by_external_id:
            raise Refusal(Trouble.DUPLICATE)
        if self.studio.is_full or self._strikes("submit", "refuse_rate"):
            raise Refusal(Trouble.FULL)

    async def _inquire(self, inquiry: Inquiry, request: Request) -> Answer:
        self._admit(request, inquiry.takes_jwt)
        args = dict(request.query_params)
        if not args.keys() <= inquiry.args or len(args) != len(request.query_params.multi_items()):
            raise Refusal(Trouble.INVALID, "query: unknown or repeated parameter", blame=True)
        if self._strikes("query", "refuse_rate"):
            raise Refusal(Trouble.FULL)
        if self._strikes("query", "server_error"):
            raise Refusal(Trouble.BROKEN)
        if self._strikes("query", "cut_answer"):
            await self._cut(request)
        ask = Ask(request.path_params, args, self.studio.find, self.studio.find_external)
        return Answer(200, inquiry.answer(ask))

    async def _upload(self, request: Request) -> Answer:
        """dreamto's reference files. Its document shows no answer; this one is in the style of its job object."""
        self._admit(request, takes_jwt=False)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refusal(Trouble.INVALID, "content-type: wants multipart/form-data", blame=True)
        async with request.form(max_files=1, max_fields=2) as form:
            file, kind, purpose = form.get("file"), form.get("kind"), form.get("purpose")
            if (
                set(form) != UPLOAD_FIELDS
                or not isinstance(file, UploadFile)
                or not (kind and purpose)
            ):
                raise Refusal(Trouble.INVALID, "form: wants kind, purpose and one file", blame=True)
            url = f"https://cdn.example.com/uploads/{file.filename}"
        shown: JsonObject = {
            "id": "file_simulated",
            "object": "file",
            "kind": str(kind),
            "purpose": str(purpose),
        }
        return Answer(200, {**shown, "url": url, "request_id": "req_simulated"})

    def _admit(self, request: Request, takes_jwt: bool) -> None:
        trouble = key_trouble(request.headers.get("authorization", ""), self._keys, takes_jwt)
        if trouble:
            raise Refusal(trouble, blame=True)
        for name, expected in self.dialect.path_values.items():
            if request.path_params[name] != expected:
                raise Refusal(Trouble.NO_ROUTE, blame=True)

    async def _json(self, request: Request) -> JSON:
        if (
            request.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/json"
        ):
            raise Refusal(Trouble.INVALID, "content-type: wants application/json", blame=True)
        raw = b""
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MAX_BODY:
                raise Refusal(Trouble.INVALID, "body: too large", blame=True)
        try:
            body: JSON = json.loads(raw)
        except ValueError as error:
            raise Refusal(Trouble.INVALID, "body: not JSON", blame=True) from error
        return body

    def _checked(self, entrance: Entrance, body: JSON, path: Mapping[str, str]) -> JsonObject:
        """The body, if the document allows all of it. Each complaint becomes a violation; the first is answered."""
        wrong = list(entrance.check(body, ""))
        if isinstance(body, dict) and not wrong:
            wrong += entrance.rules(body, path)
            if entrance.models and path["model"] not in entrance.models:
                raise Refusal(Trouble.NO_MODEL, blame=True)
            if not wrong:
                return body
        for what in wrong[1:]:
            self._violations.append(
                Violation(self.dialect.mount, f"/{self.dialect.mount}{entrance.path}", what)
            )
        raise Refusal(Trouble.INVALID, wrong[0], blame=True)

    def _strikes(self, operation: str, fault: str) -> bool:
        return self.studio.chance.strikes(self.dialect.mount, operation, fault)

    async def _cut(self, request: Request) -> None:
        if request.client:
            await self._abort((request.client.host, request.client.port))


def model_of(body: JsonObject, path: Mapping[str, str]) -> str:
    """The model, from wherever the dialect names it; Cloudsway's is part of the path itself."""
    return path.get("model") or str(
        body.get("model") or body.get("model_name") or "kling-3.0-turbo"
    )
