"""Everything that can go wrong for a caller, named by what the caller does next.

OrchestratorError
├── ClientError          everything below: `message` says what, to what; `hint` what to do next
│   ├── ApiError         the server refused: `status`, `code`, `detail`, `request_id`, `errors`, `document`
│   │   ├── Unauthorized   401: send a valid key
│   │   ├── Forbidden      403: a key with a wider scope
│   │   ├── NotFound       404: no such thing
│   │   ├── Conflict       409: not in this state, or taken; `job_id` names the job it is about
│   │   ├── Gone           410: the log begins later; `next_cursor` is where
│   │   ├── Invalid        400, 413, 415, 422: `errors` point at what to change
│   │   ├── RateLimited    429: later, in `retry_after` seconds
│   │   └── Unavailable    502, 503, 504: later, in `retry_after` seconds
│   ├── Unreachable      no answer; `sent` says whether the request may have arrived all the same
│   ├── NotOurs          an answer that is none of our server's
│   ├── StreamGap        events may have been missed; iterate on to go on after `resumes_after`
│   ├── WaitTimeout      the time is up and the job is not final; `job` is what it is now
│   └── JobFailed        the job is final and has not succeeded; `job` says why
└── BadSignature         a delivery that is not to be believed
"""

from __future__ import annotations

from typing import Any

from orchestrator.foundation.errors import OrchestratorError
from orchestrator.schemas import Fault, Job


class ClientError(OrchestratorError):
    """A call did not do what it was to do. `message` says what and to what, `hint` what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ApiError(ClientError):
    """The server refused (RFC 9457).

    `document` is the problem as it came, None if a proxy spoke instead. `retry_after` is in seconds.
    """

    _what_next = ""

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
        super().__init__(message, hint=self._what_next)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.errors = errors
        self.retry_after = retry_after
        self.document = document

    def _said(self, name: str) -> str | None:
        value = (self.document or {}).get(name)
        return value if isinstance(value, str) else None


class Unauthorized(ApiError):
    """401: no key, or none that is valid."""

    _what_next = "give api_key=, or set ORCHESTRATOR_API_KEY; `orchestrator keys create` makes one"


class Forbidden(ApiError):
    """403: the key may not do that."""

    _what_next = "use a key with a wider scope: read < write < admin"


class NotFound(ApiError):
    """404: no such thing, or no such path on this server."""


class Conflict(ApiError):
    """409: it exists, but not in a state that allows this; or it is taken."""

    @property
    def job_id(self) -> str | None:
        """The job that it is about: the one that has the external_task_id, the one that is live or final already."""
        return self._said("job_id")


class Gone(ApiError):
    """410: events after that cursor may be deleted."""

    @property
    def next_cursor(self) -> str | None:
        """Where the log can be read on from."""
        return self._said("next_cursor")


class Invalid(ApiError):
    """400, 413, 415 or 422: the request is at fault, and `errors` point at where."""


class RateLimited(ApiError):
    """429: too much, too fast."""

    _what_next = "wait `retry_after` seconds"


class Unavailable(ApiError):
    """502, 503 or 504: the server's own trouble, or that of a proxy before it."""

    _what_next = "try again later"


class Unreachable(ClientError):
    """The server did not answer. `sent`: the request may have arrived.

    `idempotency_key` is that of a lost submission: submitting with it again makes no second job.
    """

    def __init__(self, message: str, *, sent: bool, idempotency_key: str | None = None) -> None:
        hint = "is `orchestrator serve` running there? server= or ORCHESTRATOR_SERVER names another"
        if sent:
            hint = "it may have been received all the same"
        if sent and idempotency_key:
            hint += f"; the same call with idempotency_key={idempotency_key!r} makes no second job"
        super().__init__(message, hint=hint)
        self.sent = sent
        self.idempotency_key = idempotency_key


class NotOurs(ClientError):
    """The answer is none of our server's: not JSON, too large, a redirect, or of another shape."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="is this the right server, and as new as this client?")


class StreamGap(ClientError):
    """The log was cleaned up to after the stream's cursor: events in between may never be seen.

    The stream is still good: iterating on goes on after `resumes_after`.
    """

    def __init__(self, resumes_after: str) -> None:
        message = f"events may have been missed: the log begins after {resumes_after}"
        super().__init__(message, hint="iterate on to go on from there, or give on_gap=")
        self.resumes_after = resumes_after


class WaitTimeout(ClientError):
    """The job was not final in time. It goes on; `job` is what it is now."""

    def __init__(self, job: Job, seconds: float) -> None:
        message = f"{job.id} is still {job.status} after {seconds:g} s"
        super().__init__(message, hint=f"it goes on: wait for {job.id} again")
        self.job = job


class JobFailed(ClientError):
    """The job is final and has not succeeded: it failed, expired or was canceled. `job.error` says why."""

    def __init__(self, job: Job) -> None:
        why = f": {job.error.code}: {job.error.message}" if job.error else ""
        super().__init__(
            f"{job.id} {job.status}{why}", hint=f"client.jobs.timeline({job.id!r}) has its history"
        )
        self.job = job
