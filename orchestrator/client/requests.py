"""Requests as values, built before anything is sent."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict, Unpack
from urllib.parse import quote

_PREFER_WAIT = re.compile(r"\bwait\s*=\s*\"?([0-9]{1,6})")
_SECONDS = re.compile(r"([0-9]{1,6})")
#: Seconds that the server may take to pass an upload on to the vendor.
_UPLOAD_HOLD = 60.0
#: Seconds for which the server holds a submission's response, at most.
_LONGEST_HOLD = 60


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


#: An argument that was left out, where None has a meaning.
UNSET = Unset()


@dataclass(frozen=True, slots=True)
class Request:
    """One call. Query parameters that are None are left out, lists are joined with commas.

    The body is `json`, or a multipart form of `files` (name and content) and `fields`.
    """

    method: str
    path: str
    json: object = field(default=None, repr=False)
    query: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[str, bytes]] | None = field(default=None, repr=False)
    fields: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            # Appended to the URL it would extend the host, and the key would go to that host.
            raise ValueError(f"the path must begin with a slash: {self.path!r}")
        for name, value in self.headers.items():
            if not (value.isascii() and value.isprintable()):
                raise ValueError(f"the header {name} must be printable ASCII")

    def _header(self, wanted: str) -> str | None:
        return next((text for name, text in self.headers.items() if name.lower() == wanted), None)

    @property
    def idempotency_key(self) -> str | None:
        """The key that makes a repeated request harmless."""
        return self._header("idempotency-key")

    @property
    def is_idempotent(self) -> bool:
        """True if sending it twice has the effect of sending it once."""
        return self.method in ("GET", "HEAD") or self.idempotency_key is not None

    @property
    def hold(self) -> float:
        """Seconds for which the server may hold its response: a long poll, or an upload."""
        if self.files is not None:
            return _UPLOAD_HOLD
        found = _PREFER_WAIT.search(self._header("prefer") or "")
        found = found or _SECONDS.fullmatch(str(self.query.get("wait", "")))
        return float(found[1]) if found else 0.0

    def params(self) -> dict[str, str]:
        """Return the query parameters as strings."""
        return {name: _param(value) for name, value in self.query.items() if value is not None}

    def with_query(self, **query: object) -> Request:
        """Return the same request with more query parameters."""
        return replace(self, query={**self.query, **query})


def _param(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(map(str, value))
    return str(value)


def rfc3339(value: datetime) -> str:
    """Return an instant as the API takes it. A naive datetime is local time, as in Python."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def path(*segments: str) -> str:
    """Return a path of the API. Each segment is escaped, so it cannot add or leave a segment.

    >>> path("jobs", "job_1/../..")
    '/v1/jobs/job_1%2F..%2F..'
    """
    for segment in segments:
        if segment in ("", ".", ".."):
            raise ValueError(f"{segment!r} is no id or name")
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def get(*segments: str, **query: object) -> Request:
    """Return a GET request."""
    return Request("GET", path(*segments), query=query)


def post(*segments: str, json: object = None, headers: Mapping[str, str] | None = None) -> Request:
    """Return a POST request."""
    return Request("POST", path(*segments), json, headers=headers or {})


def split_list(values: str | Sequence[str] | None) -> list[str] | None:
    """Return a list from a sequence, or from a string with commas."""
    return values.split(",") if isinstance(values, str) else None if values is None else [*values]


def json_fields(**fields: object) -> dict[str, object]:
    """Return the fields that are neither None nor UNSET, with datetimes in RFC 3339."""
    return {
        name: _json_value(value)
        for name, value in fields.items()
        if value is not None and value is not UNSET
    }


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return {name: _json_value(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [_json_value(item) for item in value]
    return value


def declared(options: Mapping[str, object], fields: type) -> dict[str, object]:
    """Return keyword arguments in the order of the TypedDict that declares them.

    Raises `TypeError` for any other: Python itself does not check `**options: Unpack[...]`.
    """
    if unknown := sorted(options.keys() - fields.__annotations__.keys()):
        raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
    return {name: options[name] for name in fields.__annotations__ if name in options}


class JobOptions(TypedDict, total=False):
    """Optional parameters of a submission; see `Client.submit`."""

    account: str | None
    capability: str | None
    external_task_id: str | None
    callback_url: str | None
    callback_events: str | Sequence[str] | None
    metadata: Mapping[str, object] | None
    deadline: float | None
    start_after: datetime | str | float | None
    priority: int | None
    fairness_key: str | None
    idempotency_key: str | None


def idempotency_header(key: str | None) -> dict[str, str]:
    """Return the header that makes a request safe to retry: a second render costs money too."""
    return {"idempotency-key": key or secrets.token_urlsafe(24)}


def submission(
    model: str, input: Mapping[str, object], wait: float | None, **options: Unpack[JobOptions]
) -> Request:
    """Return the request that submits a job."""
    headers = idempotency_header(options.pop("idempotency_key", None))
    fields = declared(options, JobOptions)
    fields["callback_events"] = split_list(options.get("callback_events"))
    if wait:
        headers["prefer"] = f"wait={max(1, min(_LONGEST_HOLD, round(wait)))}"
    return post("jobs", json=json_fields(model=model, input=input, **fields), headers=headers)


def upload(
    file: str | os.PathLike[str] | bytes,
    kind: str,
    purpose: str,
    account: str | None,
    filename: str | None,
) -> Request:
    """Return the request that passes a file on. Raises `OSError` if it cannot be read."""
    if isinstance(file, bytes):
        content, name = file, filename or "file"
    else:
        content, name = Path(file).read_bytes(), filename or Path(file).name
    fields = {"kind": kind, "purpose": purpose, **({} if account is None else {"account": account})}
    files = {"file": (name, content)}
    return Request("POST", path("files", "upload"), files=files, fields=fields)
