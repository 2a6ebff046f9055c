"""Every error of this package, named by what the caller does next.

OrchestratorError
├── ConfigError          change the configuration; nothing was started
├── Problem              change the request (an RFC 9457 answer)
│   ├── Unsupported      the dialect cannot carry a field
│   ├── NotFound         there is no such resource
│   └── Conflict         the resource is not in a state that allows it
├── Untrusted            believe nothing in it
│   ├── BadToken         a callback token that is forged, expired, or of another account
│   └── BadSignature     a vendor signature that is missing, wrong or stale
├── Unreadable           keep the bytes, query the vendor instead
│   └── NotJson          answer 400
├── Unavailable          try again later (503): the fault is on our side
└── Exchange             an HTTP exchange that did not end in an acceptance
    ├── NotSent          nothing left: send it again
    │   ├── TooLate      it may no longer be sent from here
    │   └── Blocked      it can never be sent: the address is forbidden
    ├── Refused          a definite no, permanent or temporary
    └── CutOff           the other side may have it: look it up before sending again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class OrchestratorError(Exception):
    """The root of the tree above."""


class ConfigError(OrchestratorError):
    """The configuration is wrong. The message names the setting and what to write instead."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a request body: where (a JSON pointer), its code, and a message."""

    pointer: str
    code: str
    message: str


class Problem(OrchestratorError):
    """The request cannot be served. Carries what an RFC 9457 answer needs."""

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
    """A dialect cannot carry a field. Nothing was sent.

    `field` is relative to the submit body (`input/last_image_url`); `why` names the vendor.
    """

    code = "unsupported"
    title = "The vendor cannot carry this"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why, faults=[Fault("/" + field, "unsupported", why)])
        self.field = field
        self.why = why


class NotFound(Problem):
    """The resource does not exist, or belongs to another caller."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(Problem):
    """The resource exists, but not in a state that allows the request."""

    status = 409
    code = "conflict"
    title = "Conflict"


class Untrusted(OrchestratorError):
    """A check of authenticity failed. The message names the check and never the secret."""


class BadToken(Untrusted):
    """A callback token is malformed, forged, expired or made for another account."""


class SignatureFault(StrEnum):
    """Why a signature is refused. Operators mend each in another place."""

    #: A signature is required, and there is none or only a part of one.
    UNSIGNED = "unsigned"
    #: Its timestamp is too far from our clock.
    STALE = "stale"
    #: It is malformed, or no configured secret made it.
    MISMATCHED = "mismatched"


class BadSignature(Untrusted):
    """A vendor's signature is required and missing, wrong, or too old."""

    def __init__(self, message: str, fault: SignatureFault = SignatureFault.MISMATCHED) -> None:
        super().__init__(message)
        self.fault = fault


class Unreadable(OrchestratorError):
    """A body from outside cannot be understood. Keep it; query the vendor."""


class NotJson(Unreadable):
    """The body is not JSON. `why` says what is wrong with it, and where."""

    def __init__(self, why: str) -> None:
        super().__init__("the body is not JSON")
        self.why = why


class Unavailable(OrchestratorError):
    """The database is down, the disk or a queue is full. Nothing was acknowledged.

    `retry_after` is in seconds. The message is for the log; `detail` may be shown to anyone.
    """

    def __init__(self, message: str, *, retry_after: int = 2, detail: str = "") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.detail = detail


class Exchange(OrchestratorError):
    """An HTTP exchange that was not accepted. `kind` is a stable word for logs and attempts."""

    kind = "error"

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind


class NotSent(Exchange):
    """No byte of the request left: no address, or the connection was refused or timed out."""

    kind = "not_sent"


class TooLate(NotSent):
    """The process stood still until another one may have sent the request."""

    kind = "too_late"


class Blocked(NotSent):
    """The address is forbidden. Trying again cannot help."""

    kind = "blocked_address"


class Refused(Exchange):
    """The other side refused and did nothing.

    `code` is ours (contract: `vendor_refused`, `vendor_auth`, ...); `vendor_code` and
    `vendor_message` are theirs. `retry_after` is in seconds. `rate_limited` marks a limit of the
    whole account (rate or concurrency): the lane pauses and the job keeps its place. `duplicate`
    marks "this external id already exists": an earlier copy was accepted.
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
    """The response was lost or says nothing definite. The other side may have acted."""

    kind = "cut_off"
