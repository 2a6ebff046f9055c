"""Pages to read: `/errors/{code}`, and `/docs`, the API in Swagger UI without a CDN."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response

from orchestrator.api.endpoint import RequestContext
from orchestrator.api.operation import operation, returns
from orchestrator.api.problems import CODES
from orchestrator.foundation.errors import NotFound

_STATIC = Path(__file__).parent / "static"
_SWAGGER = _STATIC / "swagger-ui"
_SCRIPT = "text/javascript"
#: The files of `/docs/{name}`: no other path of the file system is read.
_FILES = {
    "docs.js": (_STATIC, _SCRIPT),
    "swagger-ui-bundle.js": (_SWAGGER, _SCRIPT),
    "swagger-ui-bundle.js.LICENSE.txt": (_SWAGGER, "text/plain"),
    "swagger-ui.css": (_SWAGGER, "text/css"),
    "favicon-32x32.png": (_SWAGGER, "image/png"),
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
NOT_MODIFIED = returns(None, "ETag", description="The caller's copy is current")


@operation(
    "Read the API document",
    responses={200: returns(None, "ETag", media_type="text/html"), 304: NOT_MODIFIED},
    lenient=True,
)
async def page(context: RequestContext) -> Response:
    """This document as a page for reading and trying out."""
    return static_response(context, *_content(_STATIC / "docs.html"), "text/html")


@operation(
    "Get a file of that page",
    responses={200: returns(None, "ETag", media_type="*/*"), 304: NOT_MODIFIED},
    lenient=True,
)
async def file(context: RequestContext) -> Response:
    """Its scripts and styles."""
    name = context.request.path_params["name"]
    if name not in _FILES:
        raise NotFound("no such file")
    folder, media_type = _FILES[name]
    return static_response(context, *_content(folder / name), media_type)


@operation(
    "Find the way back to that page", responses={307: returns(None, "Location")}, lenient=True
)
async def redirect(context: RequestContext) -> Response:
    """After a trailing slash the page's relative links would not resolve."""
    return Response(status_code=307, headers={"location": "../docs"})


def static_response(
    context: RequestContext, content: bytes, etag: str, media_type: str
) -> Response:
    """Return content that changes only with the program; 304 if the caller has it."""
    headers = {**_HEADERS, "etag": etag}
    tags = context.request.headers.get("if-none-match", "").split(",")
    if {tag.strip().removeprefix("W/") for tag in tags} & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


@cache
def _content(path: Path) -> tuple[bytes, str]:
    content = path.read_bytes()
    return content, etag(content)


def etag(content: bytes) -> str:
    """Return the entity tag of static content."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@operation(
    "Explain a problem", responses={200: returns(None, media_type="text/plain")}, lenient=True
)
async def explain(context: RequestContext) -> Response:
    """The page that a problem's `type` links to."""
    code = context.request.path_params["code"]
    if code not in CODES:
        raise NotFound("no such code of a problem")
    text = f"{code} ({CODES[code].status})\n\n{CODES[code].advice}\n"
    return Response(text, media_type="text/plain")
