"""What is asked, as values."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

_WAIT = re.compile(r"\bwait\s*=\s*\"?([0-9]{1,6})")
_SECONDS = re.compile(r"([0-9]{1,6})")
_PASSING_ON = 60.0


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


#: An argument that was not given, where None means something.
UNSET = Unset()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and the fields beside it."""

    name: str
    content: bytes = field(repr=False)
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """One call. Query parameters that are None are left out, lists are joined with commas."""

    method: str
    path: str
    json: object = field(default=None, repr=False)
    query: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            # It would be read as part of the host, and the key would go there.
            raise ValueError(f"the path must begin with a slash: {self.path!r}")

    @property
    def idempotency_key(self) -> str | None:
        """The key that makes a second sending of it harmless."""
        return next(
            (value for name, value in self.headers.items() if name.lower() == "idempotency-key"),
            None,
        )

    @property
    def is_idempotent(self) -> bool:
        """True if sending it again does no more than sending it once."""
        return self.method in ("GET", "HEAD") or self.idempotency_key is not None

    @property
    def held(self) -> float:
        """Seconds for which the server may hold its answer: it was asked to, or passes a file on."""
        if self.upload is not None:
            return _PASSING_ON
        prefer = next(
            (value for name, value in self.headers.items() if name.lower() == "prefer"), ""
        )
        said = _WAIT.search(prefer) or _SECONDS.fullmatch(str(self.query.get("wait", "")))
        return float(said[1]) if said else 0.0

    def params(self) -> dict[str, str]:
        """Return the query as texts."""
        return {name: _text(value) for name, value in self.query.items() if value is not None}

    def asking(self, **query: object) -> Request:
        """Return the same request with more in its query."""
        return replace(self, query={**self.query, **query})


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(str(one) for one in value)
    return str(value)


def rfc3339(value: datetime | str) -> str:
    """Return an instant as the API takes it. A datetime without a zone is taken for local time, as Python does."""
    return (
        value
        if isinstance(value, str)
        else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    )


def path(*parts: str) -> str:
    """Return a path of the API; what stands in it cannot lead out of its segment.

    >>> path("jobs", "job_1/../..")
    '/v1/jobs/job_1%2F..%2F..'
    """
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"{part!r} is no id or name")
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def several(values: str | Sequence[str] | None) -> list[str] | None:
    """Return what may be given as one text, with commas or without, or as several."""
    return values.split(",") if isinstance(values, str) else None if values is None else [*values]


def given(**fields: object) -> dict[str, object]:
    """Return the fields that were given: neither None nor UNSET, instants as the API takes them."""
    return {
        name: _plain(value)
        for name, value in fields.items()
        if value is not None and value is not UNSET
    }


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [_plain(one) for one in value]
    return value


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
    file: str | os.PathLike[str] | bytes,
    *,
    kind: str,
    purpose: str,
    account: str | None,
    filename: str | None,
) -> Request:
    """Return the request that passes a file on. Raises `OSError` if it cannot be read."""
    content = file if isinstance(file, bytes) else Path(file).read_bytes()
    name = filename or ("file" if isinstance(file, bytes) else Path(file).name)
    fields = {"kind": kind, "purpose": purpose} | (
        {"account": account} if account is not None else {}
    )
    return Request("POST", path("files", "upload"), upload=Upload(name, content, fields))
