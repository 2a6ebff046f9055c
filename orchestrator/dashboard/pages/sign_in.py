"""Signing in with an API key, signing out, and the reader's language and theme."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from orchestrator.dashboard.rendering import THEMES, Renderer
from orchestrator.dashboard.session import Sessions
from orchestrator.dashboard.translations import COOKIE, LANGUAGES

_YEAR = 365 * 86_400


@dataclass(frozen=True, slots=True)
class SignIn:
    """The pages that need no session."""

    sessions: Sessions
    renderer: Renderer

    async def show(self, request: Request, form: FormData) -> Response:
        """Show the form."""
        return self._form(request, "")

    async def enter(self, request: Request, form: FormData) -> Response:
        """Open a session if the key is valid. Attempts of an address are limited."""
        address = request.client.host if request.client else ""
        if wait := self.sessions.attempts.admit(address):
            response = self._form(request, "sign_in.wait", HTTPStatus.TOO_MANY_REQUESTS)
            response.headers["retry-after"] = str(int(wait) + 1)
            return response
        response = RedirectResponse(self._next(request, _text(form, "next")), HTTPStatus.SEE_OTHER)
        if await self.sessions.open(_text(form, "key"), response):
            return response
        return self._form(request, "sign_in.wrong", HTTPStatus.FORBIDDEN)

    async def leave(self, request: Request, form: FormData) -> Response:
        """End the session."""
        where = self.renderer.address(request, "/sign-in")
        response = RedirectResponse(where, HTTPStatus.SEE_OTHER)
        self.sessions.end(response)
        return response

    async def prefer(self, request: Request, form: FormData) -> Response:
        """Keep the reader's language or theme; an empty one is that of the browser."""
        where = self._next(request, _text(form, "next"))
        response = RedirectResponse(where, HTTPStatus.SEE_OTHER)
        for name, known in ((COOKIE, LANGUAGES), ("theme", THEMES)):
            if name in form:
                value = _text(form, name)
                chosen = value if value in known else ""
                response.set_cookie(
                    name,
                    chosen,
                    _YEAR if chosen else 0,
                    path=None,
                    samesite="strict",
                    httponly=True,
                    secure=self.sessions.is_secure,
                )
        return response

    def _form(self, request: Request, fault: str, status: int = HTTPStatus.OK) -> Response:
        back = request.query_params.get("next", "")
        values = {"fault": fault, "next": back, "reader": None}
        return self.renderer.respond(request, "sign_in.html", status, values)

    def _next(self, request: Request, path: str) -> str:
        """Return the address of the page to go to: one of the dashboard, whatever is asked for."""
        plain = unquote(path)
        is_ours = path.startswith("/") and not plain.startswith("//") and plain.isprintable()
        return self.renderer.address(
            request, path if is_ours and ".." not in plain and "\\" not in plain else ""
        )


def _text(form: FormData, field: str) -> str:
    value = form.get(field)
    return value.strip() if isinstance(value, str) else ""
