"""Everything that can go wrong, named by what the caller does next.

OrchestratorError
├── ConfigError          the operator changes the configuration; nothing was started
├── Problem              the caller changes the request (an RFC 9457 answer)
│   ├── Unsupported      a dialect cannot carry a field
│   ├── NotFound         no such thing
│   └── Conflict         not in this state
├── Untrusted            believe nothing of it
│   ├── BadToken         a callback token that is not ours, not for this account, or too old
│   └── BadSignature     a vendor signature that is missing, wrong or stale
├── Unreadable           keep the bytes, ask the vendor instead
│   └── NotJson          tell the sender
├── Unavailable          our own trouble: try again later (503)
└── Exchange             one HTTP exchange that did not end in an acceptance
    ├── NotSent          it never left: send it again
    │   └── Blocked      and never will: the address is forbidden
    ├── Refused          a definite no, for good or for now
    └── CutOff           the other side may have it: find out before sending again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OrchestratorError(Exception):
    """The root of the tree above."""


class ConfigError(OrchestratorError):
    """The configuration is wrong. The message says which setting and what to write instead."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request body: where (a JSON pointer), what kind, in which words."""

    pointer: str
    code: str
    message: str


class Problem(OrchestratorError):
    """The request cannot be served as it is. Carries what an RFC 9457 answer needs."""

    status = 422
    code = "validation_failed"
    title = "Request is not valid"

    def __init__(
        self,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        status: int | None = None,
        code: str | None = None,
        title: str | None = None,
        **members: str,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.members = members
        self.status = status or self.status
        self.code = code or self.code
        self.title = title or self.title


class Unsupported(Problem):
    """A dialect cannot carry a field, so nothing was sent.

    `field` is relative to the submit body (`input/last_image_url`); `why` names the vendor.
    """

    code = "unsupported"
    title = "The vendor cannot carry this"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why, faults=[Fault("/" + field, "unsupported", why)])
        self.field = field
        self.why = why


class NotFound(Problem):
    """No such thing, or not yours."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(Problem):
    """It exists, but not in a state that allows this."""

    status = 409
    code = "conflict"
    title = "Conflict"


class Untrusted(OrchestratorError):
    """Not to be believed. The message names the failed check and never the secret."""


class BadToken(Untrusted):
    """A callback token that is malformed, forged, expired or made for another account."""


class BadSignature(Untrusted):
    """A vendor's push signature that is required and missing, wrong, or too old."""


class Unreadable(OrchestratorError):
    """A body from outside that says nothing we understand. Keep it; ask the vendor."""


class NotJson(Unreadable):
    """It is not even JSON: whoever sent it made a mistake, and is told so."""


class Unavailable(OrchestratorError):
    """Our own trouble (database down, disk full, queue full). Nothing was acknowledged; try later."""

    def __init__(self, message: str, *, retry_after: int = 2) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Exchange(OrchestratorError):
    """An HTTP exchange that was not accepted. `kind` is a stable word for logs and attempts."""

    kind = "error"


class NotSent(Exchange):
    """The request never left us: the name did not resolve, the connection was refused or timed out."""

    kind = "not_sent"

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind


class TooLate(NotSent):
    """The process stood still until the request may no longer leave: another one may have sent it by now."""

    kind = "too_late"


class Blocked(NotSent):
    """The address is not one we may reach. Trying again cannot help."""

    kind = "blocked_address"

    def __init__(self, message: str) -> None:
        super().__init__(message, kind=self.kind)


class Refused(Exchange):
    """The other side said no and did nothing.

    `code` is ours (contract: `vendor_refused`, `vendor_auth`, ...), `vendor_code` and `vendor_message` theirs.
    `retry_after` is seconds. `rate_limited` marks a limit of the whole account (rate or concurrency): the lane pauses and
    the job keeps its turn. `duplicate` marks "this external id already exists": an earlier copy was accepted.
    """

    kind = "refused"

    def __init__(
        self,
        message: str,
        *,
        code: str = "vendor_refused",
        vendor_code: str | int | None = None,
        vendor_message: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        rate_limited: bool = False,
        duplicate: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.vendor_code = vendor_code
        self.vendor_message = vendor_message
        self.retryable = retryable
        self.retry_after = retry_after
        self.rate_limited = rate_limited
        self.duplicate = duplicate


class CutOff(Exchange):
    """The answer was lost or says nothing definite. The other side may have acted."""

    kind = "cut_off"

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind
