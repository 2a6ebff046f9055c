"""Try: a submission by a form that shows what an account takes, and what its vendor would get."""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from orchestrator.dashboard import formats, try_form
from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.page import Page
from orchestrator.dashboard.try_form import NotAValue
from orchestrator.foundation.ids import is_id

#: Fields of the submission beside its input, and the kinds of their texts.
_OURS = {
    "external_task_id": "line",
    "callback_url": "url",
    "deadline": "number",
    "start_after": "line",
    "priority": "number",
    "fairness_key": "line",
    "metadata": "json",
}
#: Codes of refusals that a change of the form remedies.
_OF_FIELDS = ("validation_failed", "unsupported", "external_task_id_taken", "not_json")
#: The key of a form, for which it makes one job at most.
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
#: Accounts that the form offers.
_MOST = 200


async def show(page: Page) -> Response:
    """Show the form for an account and a capability; `job` fills it from that job."""
    query, texts = dict(page.query), dict[str, str]()
    if "job" in query:
        if not is_id(query["job"], "job"):
            raise ApiProblem(404, {"title": "Not found", "detail": "no such job"})
        job = await page.api.get(f"/v1/jobs/{query['job']}")
        chosen = {name: str(job[name]) for name in ("account", "capability", "model")}
        if job["metadata"]:
            chosen["metadata"] = formats.readable(job["metadata"])
        query, texts = {**chosen, **query}, try_form.texts(job)
    return await _form(page, query, texts)


async def act(page: Page) -> Response:
    """Preview the request, or submit the job and lead to it."""
    sent = {name: page.text(name) for name in page.form}
    texts = {name[6:]: text for name, text in sent.items() if name.startswith("input.")}
    body, faults = _body(sent, texts)
    if faults:
        return await _form(page, sent, texts, faults=faults)
    is_submission = sent.get("step") == "submit"
    try:
        if is_submission:
            made = await page.api.post("/v1/jobs", body, idempotency_key=_key(sent))
            return page.go(f"/jobs/{made['id']}", "try.submitted")
        preview = await page.api.post("/v1/jobs/preview", body)
    except ApiProblem as error:
        if error.code not in _OF_FIELDS:
            raise
        return await _form(page, sent, texts, faults=_pointed(error))
    return await _form(page, sent, texts, preview=preview)


def _body(sent: Json, texts: dict[str, str]) -> tuple[Json, dict[str, str]]:
    """Return the submission that a form makes, and the keys of messages by pointer."""
    faults: dict[str, str] = {}

    def values(kinds: dict[str, str], given: dict[str, str], base: str) -> Json:
        found: dict[str, Any] = {}
        for name, kind in kinds.items():
            if text := given.get(name):
                try:
                    found[name] = try_form.value(kind, text)
                except NotAValue as error:
                    faults[f"{base}/{name}"] = error.key
        return found

    given = values({name: try_form.kind(name) for name in texts}, texts, "/input")
    chosen = {name: sent[name] for name in ("account", "capability", "model") if sent.get(name)}
    return {**chosen, "input": given, **values(_OURS, sent, "")}, faults


def _pointed(error: ApiProblem) -> dict[str, str]:
    """Return the messages of a refusal by pointer."""
    found = {one["pointer"]: one["message"] for one in error.document.get("errors") or ()}
    return found or {"": str(error)}


async def _form(
    page: Page,
    chosen: Json,
    texts: dict[str, str],
    *,
    faults: dict[str, str] | None = None,
    preview: Json | None = None,
) -> Response:
    accounts = (await page.api.get("/v1/accounts", {"limit": _MOST}))["data"]
    account = _one_of(accounts, chosen.get("account"))
    inputs = account["inputs"] if account else {}
    capability = chosen.get("capability")
    capability = capability if capability in inputs else next(iter(inputs), "")
    known = account["models"].get(capability, []) if account else []
    fields = try_form.fields(inputs[capability]) if capability else []
    shown = {one.name for one in fields}
    return page.render(
        "try.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if faults else HTTPStatus.OK,
        accounts=accounts,
        account=account,
        capability=capability,
        capabilities=list(inputs),
        models=known,
        model=chosen.get("model") or (known[0] if known else ""),
        fields=fields,
        exclusive=inputs[capability]["exclusive"] if capability else [],
        left_out=sorted(name for name, text in texts.items() if text and name not in shown),
        texts=texts,
        ours=_OURS,
        has_more_fields=any(chosen.get(name) for name in _OURS),
        sent=chosen,
        faults=faults or {},
        preview=preview,
        key=_key(chosen),
    )


def _key(sent: Json) -> str:
    """Return the idempotency key of a form, a new one for a new form."""
    key = str(sent.get("key", ""))
    return key if _KEY.fullmatch(key) else secrets.token_urlsafe(16)


def _one_of(accounts: list[Json], name: str | None) -> Json | None:
    """Return the account with a name, or else the first; None if there are none."""
    named = (one for one in accounts if one["name"] == name)
    return next(named, accounts[0] if accounts else None)
