"""Pages from templates: escaped, in the reader's language, with links that no proxy breaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.dashboard import formats
from orchestrator.dashboard.translations import Catalogue, catalogue, language_of
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.durations import span
from orchestrator.foundation.retry_policy import RetryPolicy

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
#: Pictures and clips come from vendors; everything else is ours. Nothing inline, nothing evaluated.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: http: data:; "
    "media-src 'self' https: http:; connect-src 'self'; worker-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
}
THEMES = ("light", "dark")


class Renderer:
    """Makes pages. `now` and the language come with each request."""

    def __init__(
        self, clock: Clock, version: str, public_url: str, retry_policy: RetryPolicy
    ) -> None:
        self._clock = clock
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            version=version,
            public_url=public_url,
            retry_policy=retry_policy,
            public_host=urlsplit(public_url).netloc.rpartition("@")[2],
            asset=asset,
            tone_of=formats.tone_of,
            icon_of=formats.icon_of,
            icon_of_tone=formats.icon_of_tone,
        )
        self._environment.filters.update(formats.FILTERS)

    def now(self) -> datetime:
        """Return the instant that pages are made at."""
        return self._clock.now()

    def respond(
        self, request: Request, template: str, status: int, values: Mapping[str, Any]
    ) -> Response:
        """Return a page, also of a problem."""
        language = language_of(request)
        texts = catalogue(language)
        shared: dict[str, Any] = {
            "_": texts.text,
            "has_text": texts.has,
            "say": lambda sentence: sentence.text(texts),
            "language": language,
            "theme": theme_of(request),
            "now": self._clock.now(),
            "ago": _Ago(texts, self._clock.now()),
            "url": lambda path="", **query: self.address(request, path, query),
            "here": request.scope["path"].partition("/dashboard")[2],
            "query": dict(request.query_params),
            "more": lambda **changed: self.address(
                request,
                request.scope["path"].partition("/dashboard")[2],
                # A notice is about what led here: no other page repeats it.
                {**request.query_params, "notice": "", **changed},
            ),
            "may": lambda _: False,
            "form_token": "",
        }
        html = self._environment.get_template(template).render({**shared, **values})
        return Response(html, status, _HEADERS, media_type="text/html")

    def address(self, request: Request, path: str, query: Mapping[str, Any] | None = None) -> str:
        """Return the address of a page of the dashboard, relative to that of the request.

        Relative ones hold behind every prefix of a proxy, known to us or not.
        """
        depth = request.scope["path"].count("/") - 1
        chosen = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        question = f"?{urlencode(chosen)}" if chosen else ""
        return f"{'../' * depth}dashboard{path}{question}"


class _Ago:
    """How long ago an instant of the API was, in the reader's words: `3 min ago`."""

    def __init__(self, texts: Catalogue, now: datetime) -> None:
        self._texts = texts
        self._now = now

    def __call__(self, instant: str | None) -> str:
        if not instant:
            return ""
        seconds = (self._now - datetime.fromisoformat(instant)).total_seconds()
        key = "time.ago" if seconds >= 0 else "time.ahead"
        return self._texts.text(key, span=span(abs(seconds), self._unit))

    def _unit(self, unit: str) -> str:
        return self._texts.text(f"unit.{unit}")


def theme_of(request: Request) -> str:
    """Return the theme that the reader chose; empty: that of the system."""
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else ""


@cache
def asset(name: str) -> str:
    """Return the path of a static file, with a part that changes with its content."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]
    return f"/static/{digest}/{name}"
