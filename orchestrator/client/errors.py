"""The errors of the client, by what the caller does next.

OrchestratorError
├── ClientError          everything below: `message` is what failed, `hint` what to do next
│   ├── ApiError         the server refused: `status`, `code`, `detail`, `errors`, `document`, ...
│   │   ├── Unauthorized   401: send a valid key
│   │   ├── Forbidden      403: a key with a wider scope
│   │   ├── NotFound       404: does not exist
│   │   ├── Conflict       409: wrong state, or taken; `job_id` is the job in question
│   │   ├── Gone           410: the log starts later, at `next_cursor`
│   │   ├── Invalid        400, 413, 415, 422: `errors` point at what to change
│   │   ├── RateLimited    429: retry in `retry_after` seconds
│   │   └── Unavailable    502, 503, 504: retry in `retry_after` seconds
│   ├── Unreachable      no response; `sent`: the request may have arrived all the same
│   ├── NotOurs          a response that is not from an orchestrator server
│   ├── StreamGap        events may have been missed; iterate on to resume after `resumes_after`
│   ├── WaitTimeout      the job is not final in time; `job` is its present state
│   └── JobFailed        the job is final without success; `job` has the reason
└── BadSignature         a delivery whose signature is not valid
"""

from __future__ import annotations

from typing import Any

from orchestrator.foundation.errors import OrchestratorError
from orchestrator.schemas import Fault, Job


class ClientError(OrchestratorError):
    """A call failed. `message` is what failed and on what, `hint` what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ApiError(ClientError):
    """The server refused (RFC 9457).

    `document` is the problem document, None if a proxy responded. `retry_after` is in seconds.
    """

    _hint = ""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        title: str = "",
        detail: str = "",
        request_id: str = "",
        errors: tuple[Fault, ...] = (),
        retry_after: float | None = None,
        document: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=self._hint)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.errors = errors
        self.retry_after = retry_after
        self.document = document

    def _text(self, name: str) -> str | None:
        value = (self.document or {}).get(name)
        return value if isinstance(value, str) else None


class Unauthorized(ApiError):
    """401: no key, or an invalid key."""

    _hint = "give api_key=, or set ORCHESTRATOR_API_KEY; `orchestrator keys create` makes a key"


class Forbidden(ApiError):
    """403: the key's scope does not allow it."""

    _hint = "use a key with a wider scope: read < write < admin"


class NotFound(ApiError):
    """404: no such object, or no such path on this server."""


class Conflict(ApiError):
    """409: the object's state does not allow it, or the identifier is taken."""

    @property
    def job_id(self) -> str | None:
        """The job in question: the holder of the external_task_id, the live or final job."""
        return self._text("job_id")


class Gone(ApiError):
    """410: events after that cursor may be deleted."""

    @property
    def next_cursor(self) -> str | None:
        """The cursor from which the log can be read."""
        return self._text("next_cursor")


class Invalid(ApiError):
    """400, 413, 415 or 422: the request is invalid, and `errors` point at where."""


class RateLimited(ApiError):
    """429: too many requests."""

    _hint = "wait `retry_after` seconds"


class Unavailable(ApiError):
    """502, 503 or 504: the server, or a proxy in front of it, is unavailable."""

    _hint = "try again later"


class Unreachable(ClientError):
    """The server did not respond. `sent`: the request may have arrived.

    `idempotency_key` is the key of a lost request: the same call with it makes no second job or
    replay.
    """

    def __init__(self, message: str, *, sent: bool, idempotency_key: str | None = None) -> None:
        hint = "is `orchestrator serve` running there? server= or ORCHESTRATOR_SERVER names another"
        if sent:
            hint = "it may have been received all the same"
        if sent and idempotency_key:
            hint += f"; the same call with idempotency_key={idempotency_key!r} has no second effect"
        super().__init__(message, hint=hint)
        self.sent = sent
        self.idempotency_key = idempotency_key


class NotOurs(ClientError):
    """The response is not an orchestrator's: not JSON, too large, a redirect, an unknown schema."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="is this the right server, and as new as this client?")


class StreamGap(ClientError):
    """Retention deleted the log beyond the stream's cursor: events in between may be lost.

    The stream stays usable: iterating on resumes after `resumes_after`.
    """

    def __init__(self, resumes_after: str) -> None:
        message = f"events may have been missed: the log begins after {resumes_after}"
        super().__init__(message, hint="iterate on to go on from there, or give on_gap=")
        self.resumes_after = resumes_after


class WaitTimeout(ClientError):
    """The job was not final in time. It goes on; `job` is its state at the timeout."""

    def __init__(self, job: Job, seconds: float) -> None:
        message = f"{job.id} is still {job.status} after {seconds:g} s"
        super().__init__(message, hint=f"it goes on: wait for {job.id} again")
        self.job = job


class JobFailed(ClientError):
    """The job is final without success: failed, expired or canceled. `job.error` is the reason."""

    def __init__(self, job: Job) -> None:
        why = f": {job.error.code}: {job.error.message}" if job.error else ""
        super().__init__(
            f"{job.id} {job.status}{why}", hint=f"client.jobs.timeline({job.id!r}) has its history"
        )
        self.job = job
