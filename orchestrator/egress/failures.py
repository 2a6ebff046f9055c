"""The errors of a connection as ours: `NotSent` before the request left, `CutOff` after."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Final

import httpx

from orchestrator.egress.resolver import LookupTimeout
from orchestrator.egress.response_protocol import BrokenResponse
from orchestrator.foundation.errors import Blocked, CutOff, NotSent

# First match wins, so OSError, the base of most of them, is last.
_BEFORE: Final[list[tuple[type[Exception], str]]] = [
    (LookupTimeout, "dns_timeout"),
    (socket.gaierror, "dns_error"),
    (ssl.SSLError, "tls_error"),
    (TimeoutError, "connect_timeout"),
    (ConnectionRefusedError, "connection_refused"),
    (ConnectionError, "connection_reset"),
    (OSError, "network_unreachable"),
]
_AFTER: Final[list[tuple[type[Exception], str]]] = [
    (TimeoutError, "timeout"),
    (OSError, "connection_reset"),
]
#: By X509_V_ERR_* of OpenSSL: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
_CERTIFICATES: Final[Mapping[int, str]] = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    18: "certificate_self_signed",
    **dict.fromkeys((2, 19, 20, 21), "certificate_unknown_issuer"),
    **dict.fromkeys((62, 63, 64), "certificate_wrong_name"),
}


def failure(request: httpx.Request, error: Exception) -> NotSent | CutOff:
    """Return an error as ours. Its own text may hold a URL, and that a secret.

    It loses its traceback: a frame in it refers to the error, and others hold the request.
    """
    # Here: brokers' errors are named without aiohttp, which is slow to import.
    import aiohttp

    error.__traceback__ = None
    host, sent = request.url.host, request.extensions["sent"]
    if isinstance(error, aiohttp.InvalidURL):
        return Blocked(f"{host}: not a host that can be reached")
    if isinstance(error, BrokenResponse):
        return CutOff(f"{host}: {error.kind}", kind=error.kind)
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError) and not sent:
        return NotSent(f"{host}: the request cannot be written", kind="invalid_request")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        kind = _certificate_fault(cause)
        return NotSent(f"{host}: {kind}: {cause.verify_message}", kind=kind)
    found = next(
        (word for match, word in (_AFTER if sent else _BEFORE) if isinstance(cause, match)), None
    )
    why = found or type(error).__name__ if cause is error else cause
    return (CutOff if sent else NotSent)(f"{host}: {why}", kind=found)


def connect_fault(error: BaseException) -> str | None:
    """Return the word for why a library could not connect: the first cause that has one."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_fault(cause)
        for match, word in _BEFORE:
            if isinstance(cause, match):
                return word
        cause = cause.__cause__ or cause.__context__
    return None


def _certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    return _CERTIFICATES.get(error.verify_code, "certificate_invalid")
