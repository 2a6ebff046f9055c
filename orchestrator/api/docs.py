"""Pages for people: what a problem's code asks of them, and `/docs`, the API to look at, with no other host's help."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response

from orchestrator.api.endpoint import RequestContext
from orchestrator.api.operation import answer, operation
from orchestrator.api.problems import CODES
from orchestrator.foundation.errors import NotFound

_STATIC = Path(__file__).parent / "static"
_SWAGGER = _STATIC / "swagger-ui"
_SCRIPT = "text/javascript"
#: What `/docs/{name}` has: nothing else is looked for in the file system.
_FILES = {
    "docs.js": (_STATIC, _SCRIPT),
    "swagger-ui-bundle.js": (_SWAGGER, _SCRIPT),
    "swagger-ui-bundle.js.LICENSE.txt": (_SWAGGER, "text/plain"),
    "swagger-ui.css": (_SWAGGER, "text/css"),
    "favicon-32x32.png": (_SWAGGER, "image/png"),
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
NOT_CHANGED = answer(None, "ETag", says="It still is what the caller has")


@operation(
    "Read the API document",
    answers={200: answer(None, "ETag", media="text/html"), 304: NOT_CHANGED},
    lenient=True,
)
async def page(call: RequestContext) -> Response:
    """This document as a page to read and to try calls on."""
    return fixed(call, *_content(_STATIC / "docs.html"), "text/html")


@operation(
    "Get a file of that page",
    answers={200: answer(None, "ETag", media="*/*"), 304: NOT_CHANGED},
    lenient=True,
)
async def file(call: RequestContext) -> Response:
    """Its scripts and styles."""
    name = call.request.path_params["name"]
    if name not in _FILES:
        raise NotFound("no such file")
    folder, media = _FILES[name]
    return fixed(call, *_content(folder / name), media)


@operation("Find the way back to that page", answers={307: answer(None, "Location")}, lenient=True)
async def back(call: RequestContext) -> Response:
    """With a slash too many the page's own links would lead elsewhere."""
    return Response(status_code=307, headers={"location": "../docs"})


def fixed(call: RequestContext, content: bytes, etag: str, media: str) -> Response:
    """Answer with what changes only when the program does; 304 if the caller has it."""
    headers = {**_HEADERS, "etag": etag}
    known = {
        tag.strip().removeprefix("W/")
        for tag in call.request.headers.get("if-none-match", "").split(",")
    }
    if known & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media)


@cache
def _content(path: Path) -> tuple[bytes, str]:
    content = path.read_bytes()
    return content, etag(content)


def etag(content: bytes) -> str:
    """Return the entity tag of what does not change."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@operation("Explain a problem", answers={200: answer(None, media="text/plain")}, lenient=True)
async def explain(call: RequestContext) -> Response:
    """What a problem's `type` leads to."""
    code = call.request.path_params["code"]
    if code not in CODES:
        raise NotFound("no such code of a problem")
    return Response(
        f"{code} ({CODES[code].status})\n\n{CODES[code].advice}\n", media_type="text/plain"
    )
