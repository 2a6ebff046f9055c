"""Submissions and uploads as requests."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.client.requests import Request, Upload, given, path, several

#: Seconds for which the server holds an answer at most.
_LONGEST_HOLD = 60


def keyed(idempotency_key: str | None) -> dict[str, str]:
    """Return the header that lets a submission be sent twice: a render costs money, a second one too."""
    return {"idempotency-key": idempotency_key or secrets.token_urlsafe(24)}


def submission(
    *,
    model: str,
    input: Mapping[str, object],
    account: str | None,
    capability: str | None,
    external_task_id: str | None,
    callback_url: str | None,
    callback_events: str | Sequence[str] | None,
    metadata: Mapping[str, object] | None,
    deadline: float | None,
    idempotency_key: str | None,
    wait: float | None = None,
) -> Request:
    """Return the request that submits a job."""
    body = given(
        account=account,
        model=model,
        capability=capability,
        input=input,
        external_task_id=external_task_id,
        callback_url=callback_url,
        callback_events=several(callback_events),
        metadata=metadata,
        deadline=deadline,
    )
    headers = keyed(idempotency_key)
    if wait:
        headers["prefer"] = f"wait={max(1, min(_LONGEST_HOLD, round(wait)))}"
    return Request("POST", path("jobs"), json=body, headers=headers)


def upload(
    file: str | os.PathLike[str] | bytes, *, kind: str, purpose: str, account: str | None, filename: str | None
) -> Request:
    """Return the request that passes a file on. Raises `OSError` if it cannot be read."""
    content = file if isinstance(file, bytes) else Path(file).read_bytes()
    name = filename or ("file" if isinstance(file, bytes) else Path(file).name)
    fields = {"kind": kind, "purpose": purpose} | ({"account": account} if account is not None else {})
    return Request("POST", path("files", "upload"), upload=Upload(name, content, fields))
