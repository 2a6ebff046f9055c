"""API keys: the list, a new one, which is shown once, and revoking. The API lets admins alone."""

from __future__ import annotations

import re
from datetime import datetime
from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.page import Page

#: What the API takes as a number; anything else is sent as it is, and refused there.
_WHOLE = re.compile("[0-9]{1,9}")
#: Fields of the form.
_FIELDS = ("name", "scope", "expires_on", "rate_limit")


async def ls(page: Page) -> Response:
    """List keys, newest first, revoked ones too."""
    return await _listed(page)


async def create(page: Page) -> Response:
    """Create a key, and show it. The page is not kept, so it is shown this once."""
    rate = page.text("rate_limit")
    wanted: Json = {"name": page.text("name"), "scope": page.text("scope") or "read"}
    if day := page.text("expires_on"):
        wanted["expires_at"] = f"{day}T00:00:00Z"
    if rate:
        wanted["rate_limit"] = int(rate) if _WHOLE.fullmatch(rate) else rate
    try:
        made = await page.api.post("/v1/keys", wanted)
    except ApiProblem as error:
        if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        return await _listed(page, fault=error.document, status=error.status)
    return await _listed(page, made=made, status=HTTPStatus.CREATED)


async def revoke(page: Page) -> Response:
    """Revoke a key for good; that of the session itself ends it."""
    await page.api.delete(f"/v1/keys/{page.id()}")
    return page.go("/keys", "key.revoke.done")


async def _listed(
    page: Page, *, made: Json | None = None, fault: Json | None = None, status: int = HTTPStatus.OK
) -> Response:
    keys, now = await page.list("/v1/keys"), page.renderer.now()
    rows = [(key, _state(key, now)) for key in keys["data"]]
    # What was typed into a form that the API refused is kept.
    typed = {name: page.text(name) if fault else "" for name in _FIELDS}
    shown = {"keys": keys, "rows": rows, "made": made, "fault": fault, "typed": typed}
    return page.render("keys.html", status, **shown)


def _state(key: Json, now: datetime) -> str:
    """Return whether a key is valid: `active`, `expired` or `revoked`."""
    if key["revoked_at"]:
        return "revoked"
    ends = key["expires_at"]
    return "expired" if ends and datetime.fromisoformat(ends) <= now else "active"
