"""One page for one reader: the request, whose it is, the API for it, and the way to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from orchestrator.dashboard.api_calls import Api, ApiProblem, Json
from orchestrator.dashboard.rendering import Renderer
from orchestrator.dashboard.session import Identity
from orchestrator.foundation.signing.secret_keys import Session

#: Scopes from the narrowest to the widest.
_SCOPES = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Page:
    """A request for a page. `form` is empty unless it is a write."""

    request: Request
    session: Session
    identity: Identity
    api: Api
    renderer: Renderer
    form_token: str
    form: FormData

    def id(self, name: str = "id") -> str:
        """Return what stands in the path."""
        return str(self.request.path_params[name])

    @property
    def query(self) -> dict[str, str]:
        """The filters in the URL, without empty ones: a form sends all of its fields."""
        return {name: value for name, value in self.request.query_params.items() if value}

    def may(self, scope: str) -> bool:
        """True if the reader's key covers a scope. The API judges it again."""
        return _SCOPES.index(self.identity.scope) >= _SCOPES.index(scope)

    def text(self, field: str) -> str:
        """Return a field of the form without blanks around it; empty if it is absent."""
        value = self.form.get(field)
        return value.strip() if isinstance(value, str) else ""

    def render(self, template: str, status: int = HTTPStatus.OK, /, **values: Any) -> Response:
        """Return the page made from a template."""
        reader = {"may": self.may, "reader": self.identity, "form_token": self.form_token}
        return self.renderer.respond(self.request, template, status, {**reader, **values})

    def problem(self, error: ApiProblem) -> Response:
        """Return a page that says why the API refused."""
        return self.render("problem.html", error.status, problem=error.document)

    def go(self, path: str, notice: str = "", **query: str) -> Response:
        """Send the browser to a page of the dashboard, which shows a notice of the catalogue."""
        where = self.renderer.address(self.request, path, {**query, "notice": notice})
        return RedirectResponse(where, HTTPStatus.SEE_OTHER)

    async def act(
        self, path: str, back: str, notice: str, body: Mapping[str, Any] | None = None
    ) -> Response:
        """Do one thing by the API, and go back. Raises `ApiProblem`."""
        await self.api.post(path, dict(body) if body is not None else None)
        return self.go(back, notice)

    async def list(self, path: str, *names: str, **fixed: str) -> Json:
        """Return a page of a list of the API with the filters in the URL that it takes."""
        chosen = {name: self.query[name] for name in (*names, "after") if name in self.query}
        return await self.api.get(path, {**chosen, **fixed})
