"""Answers at a vendor's address that are not about the task that was asked for."""

from __future__ import annotations

import httpx

_HTML = {"content-type": "text/html"}

#: A proxy, another gateway, a framework or a login page stands where the vendor should.
FOREIGN_PAGES: dict[str, httpx.Response] = {
    "nginx": httpx.Response(404, html="<html><title>404 Not Found</title>nginx</html>"),
    "new-api": httpx.Response(
        404, json={"error": {"message": "Invalid URL (GET /v1/x)", "type": "invalid_request_error"}}
    ),
    "fastapi": httpx.Response(404, json={"detail": "Not Found"}),
    "kong": httpx.Response(404, json={"message": "no Route matched with those values"}),
    "empty": httpx.Response(404),
    "empty object": httpx.Response(404, json={}),
    "login": httpx.Response(200, html="<html>Sign in to continue</html>"),
    "maintenance": httpx.Response(503, text="down for maintenance", headers=_HTML),
    "bad gateway": httpx.Response(502, html="<html>502 Bad Gateway</html>"),
}
