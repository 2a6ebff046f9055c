"""The HTTP API of one vendor: strict about every request, with the document's responses."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router

from orchestrator.simulator.authentication import Credentials, authentication_error
from orchestrator.simulator.contract import Dialect, QueryEndpoint, StatusQuery, SubmitEndpoint
from orchestrator.simulator.errors import ErrorKind, Refusal
from orchestrator.simulator.json_body import JSON, JsonObject
from orchestrator.simulator.odd_shapes import odd_answer
from orchestrator.simulator.records import Violation
from orchestrator.simulator.renderer import Renderer

MAX_BODY: Final = 64 * 1024 * 1024
UPLOAD_FIELDS: Final = frozenset({"kind", "purpose", "file"})
RANGE: Final = re.compile(r"bytes=(\d{1,9})-(\d{0,9})")
Abort = Callable[[tuple[str, int]], Awaitable[None]]
Handler = Callable[[Request], Awaitable[JSON]]


def invalid(message: str) -> Refusal:
    return Refusal(ErrorKind.INVALID, message, violation=True)


@dataclass(slots=True)
class VendorApi:
    """One vendor behind HTTP.

    `abort` resets a client's connection. Requests that break the document go to `violations`.
    """

    dialect: Dialect
    credentials: Credentials
    renderer: Renderer
    violations: list[Violation]
    abort: Abort

    def mount(self) -> BaseRoute:
        """Return every path of the document, and no other, under the vendor's prefix."""
        route = self._route
        submits, queries = self.dialect.submit_endpoints, self.dialect.query_endpoints
        routes = [route(each.path, "submit", partial(self._submit, each)) for each in submits]
        routes += [route(each.path, "query", partial(self._query, each)) for each in queries]
        if self.dialect.upload_path:
            routes.append(route(self.dialect.upload_path, "upload", self._upload))
        return Mount(
            "/" + self.dialect.mount, app=Router([*routes, *self._clips()], redirect_slashes=False)
        )

    def no_route(self, path: str, status: int) -> Response:
        """Return the response to a path or method that the document does not have."""
        kind = ErrorKind.NO_METHOD if status == 405 else ErrorKind.NO_ROUTE
        return self._refuse(path, Refusal(kind, violation=True))

    def _route(self, path: str, operation: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return self._answer(operation, await handler(request))
            except Refusal as refusal:
                return self._refuse(request.url.path, refusal)

        return Route(path, endpoint, methods=["GET" if operation == "query" else "POST"])

    def _answer(self, operation: str, body: JSON) -> Response:
        if not self.renderer.strikes(operation, "odd_shapes"):
            return JSONResponse(body)
        content, headers = odd_answer(body, self.renderer.injector.rng, self.renderer.origin)
        return Response(content, headers=headers)

    def _refuse(self, path: str, refusal: Refusal) -> Response:
        if refusal.violation:
            self._record_violation(path, refusal.message or refusal.kind.name.lower())
        status, body = self.dialect.error_reply(refusal.kind, refusal.message)
        return JSONResponse(body, status)

    def _record_violation(self, path: str, what: str) -> None:
        self.violations.append(Violation(self.dialect.mount, path, what))

    async def _submit(self, endpoint: SubmitEndpoint, request: Request) -> JSON:
        self._authorize(request, endpoint.accepts_jwt)
        body = self._checked(endpoint, await self._json(request), request.path_params)
        self._refuse_valid(endpoint, body)
        render = self.renderer.accept(endpoint, body, request.path_params)
        response = endpoint.response(self.renderer.snapshot(render, "submit"))
        strikes = partial(self.renderer.strikes, "submit")
        if strikes("push_before_answer"):
            await self.renderer.finish_now(render, endpoint)
        else:
            self.renderer.start(render, endpoint)
        if strikes("server_error_accepted"):
            raise Refusal(ErrorKind.TIMEOUT)
        if strikes("cut_answer"):
            await self._cut(request)
        return {} if strikes("empty_answer") else response

    def _refuse_valid(self, endpoint: SubmitEndpoint, body: JsonObject) -> None:
        """Raise `Refusal` for a valid body: a failure, a repeated external id, or a full queue."""
        if self.renderer.strikes("submit", "wrong_key"):
            raise Refusal(ErrorKind.WRONG_KEY)
        if self.renderer.strikes("submit", "server_error"):
            raise Refusal(ErrorKind.BROKEN)
        external = endpoint.callback_in(body).get("external_task_id")
        if self.dialect.unique_external_ids and external in self.renderer.by_external_id:
            raise Refusal(ErrorKind.DUPLICATE)
        if self.renderer.is_full or self.renderer.strikes("submit", "refuse_rate"):
            raise Refusal(ErrorKind.FULL)

    async def _query(self, endpoint: QueryEndpoint, request: Request) -> JSON:
        self._authorize(request, endpoint.accepts_jwt)
        args = dict(request.query_params)
        if not args.keys() <= endpoint.args or len(args) != len(request.query_params.multi_items()):
            raise invalid("query: unknown or repeated parameter")
        strikes = partial(self.renderer.strikes, "query")
        if strikes("wrong_key"):
            raise Refusal(ErrorKind.WRONG_KEY)
        if strikes("refuse_rate"):
            raise Refusal(ErrorKind.FULL)
        if strikes("server_error"):
            raise Refusal(ErrorKind.BROKEN)
        if strikes("cut_answer"):
            await self._cut(request)
        find, find_external = self.renderer.find, self.renderer.find_external
        return endpoint.response(StatusQuery(request.path_params, args, find, find_external))

    async def _upload(self, request: Request) -> JSON:
        """Accept one of dreamto's reference files.

        Its document shows no response; this one has the style of its job object.
        """
        self._authorize(request, accepts_jwt=False)
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise invalid("content-type: must be multipart/form-data")
        async with request.form(max_files=1, max_fields=2) as form:
            file, kind, purpose = form.get("file"), form.get("kind"), form.get("purpose")
            is_valid = set(form) == UPLOAD_FIELDS and kind and purpose
            if not is_valid or not isinstance(file, UploadFile):
                raise invalid("form: must have kind, purpose and one file")
            return {
                "id": "file_simulated",
                "object": "file",
                "kind": str(kind),
                "purpose": str(purpose),
                "url": f"https://cdn.example.com/uploads/{file.filename}",
                "request_id": "req_simulated",
            }

    def _clips(self) -> list[Route]:
        """Return the route that serves clips, if the vendor has one."""

        async def endpoint(request: Request) -> Response:
            try:
                return self._clip(request)
            except Refusal as refusal:
                return self._refuse(request.url.path, refusal)

        path = self.dialect.content_path
        return [Route(path, endpoint, methods=["GET"])] if path else []

    def _clip(self, request: Request) -> Response:
        """Return a finished clip, or a range of it, to the holder of the key."""
        self._authorize(request, accepts_jwt=False)
        shown = self.renderer.find(request.path_params["id"])
        if shown is None or shown.state != "succeeded":
            raise Refusal(ErrorKind.NOT_FOUND)
        clip = f"simulated clip {shown.render.ids.video}".encode()
        headers = {"etag": f'"{shown.render.ids.video}"', "accept-ranges": "bytes"}
        if found := RANGE.fullmatch(request.headers.get("range", "")):
            first, last = int(found[1]), min(int(found[2] or len(clip)), len(clip) - 1)
            if first <= last:
                headers["content-range"] = f"bytes {first}-{last}/{len(clip)}"
                return Response(clip[first : last + 1], 206, headers, "video/mp4")
        return Response(clip, 200, headers, "video/mp4")

    def _authorize(self, request: Request, accepts_jwt: bool) -> None:
        header = request.headers.get("authorization", "")
        error = authentication_error(header, self.credentials, accepts_jwt)
        if error:
            raise Refusal(error, violation=True)
        for name, expected in self.dialect.path_values.items():
            if request.path_params[name] != expected:
                raise Refusal(ErrorKind.NO_ROUTE, violation=True)

    async def _json(self, request: Request) -> JSON:
        media_type = request.headers.get("content-type", "").partition(";")[0]
        if media_type.strip().lower() != "application/json":
            raise invalid("content-type: must be application/json")
        raw = b""
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MAX_BODY:
                raise invalid("body: too large")
        try:
            body: JSON = json.loads(raw)
        except ValueError as error:
            raise invalid("body: not JSON") from error
        return body

    def _checked(self, endpoint: SubmitEndpoint, body: JSON, path: Mapping[str, str]) -> JsonObject:
        """Return the body if the document allows it.

        Each error becomes a violation. The `Refusal` raised carries the first.
        """
        errors = list(endpoint.check(body, ""))
        if isinstance(body, dict) and not errors:
            errors += endpoint.rules(body, path)
            if endpoint.models and path["model"] not in endpoint.models:
                raise Refusal(ErrorKind.NO_MODEL, violation=True)
            if not errors:
                return body
        for error in errors[1:]:
            self._record_violation(f"/{self.dialect.mount}{endpoint.path}", error)
        raise invalid(errors[0])

    async def _cut(self, request: Request) -> None:
        if request.client:
            await self.abort((request.client.host, request.client.port))
