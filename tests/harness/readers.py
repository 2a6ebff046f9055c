"""Readers of the dashboard: browsers without scripts, over the application in process."""

from __future__ import annotations

import contextlib
import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from orchestrator.api.auth.api_keys import Scope
from orchestrator.app import application
from orchestrator.dashboard.session import COOKIE
from tests.api.test_support import ADMIN, Caller, calling

HOST = "https://dashboard.example"


@dataclass
class Reader:
    """A browser of one reader: it keeps cookies, and follows redirects of forms."""

    http: httpx.AsyncClient
    api: Caller

    @property
    def form_token(self) -> str:
        """The token of the forms in the reader's pages, also in those that have none to show."""
        runtime = self.api.runtime
        session = runtime.keys.read_session(self.http.cookies[COOKIE], runtime.clock.now())
        return runtime.keys.mint_form(session)

    async def sign_in(self, key: str) -> httpx.Response:
        """Sign in with a key."""
        return await self.http.post("/dashboard/sign-in", data={"key": key})

    async def see(self, path: str, status: int = 200) -> str:
        """Return the text of a page as a person reads it: entities are characters."""
        response = await self.http.get(f"/dashboard{path}")
        assert response.status_code == status, (path, response.status_code, response.text[:2000])
        return html.unescape(response.text)

    async def send(self, path: str, status: int = 200, /, **fields: Any) -> str:
        """Send a form with the token of the reader's pages, and return the page it leads to."""
        data = {"form_token": self.form_token, **fields}
        response = await self.http.post(f"/dashboard{path}", data=data, follow_redirects=True)
        assert response.status_code == status, (path, response.status_code, response.text[:2000])
        return html.unescape(response.text)


@dataclass
class Dashboard:
    """The application, callers of its API, and readers of its pages."""

    api: Caller
    app: Any

    @contextlib.asynccontextmanager
    async def reader(self, scope: Scope | None = Scope.ADMIN) -> AsyncIterator[Reader]:
        """A reader who has signed in with a key of a scope; None: one who has not."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as http:
            reader = Reader(http, self.api)
            if scope is not None:
                headers = await self.api.key(scope)
                await reader.sign_in(headers["authorization"].removeprefix("Bearer "))
            yield reader


@contextlib.asynccontextmanager
async def dashboard(folder: Path, **settings: Any) -> AsyncIterator[Dashboard]:
    """Open a runtime, and yield its dashboard."""
    async with calling(folder, **settings) as api:
        yield Dashboard(api, application(api.runtime))


__all__ = ["ADMIN", "HOST", "Dashboard", "Reader", "dashboard"]
