"""Credentials of a simulated vendor, and the check of an Authorization header."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

import jwt

from orchestrator.simulator.errors import ErrorKind

JWT_ERRORS: Final = (
    (jwt.ExpiredSignatureError, ErrorKind.EXPIRED_KEY),
    (jwt.ImmatureSignatureError, ErrorKind.EARLY_KEY),
    (jwt.PyJWTError, ErrorKind.WRONG_KEY),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials that a vendor accepts, and the secrets that sign its pushes."""

    api_key: str
    access_key: str = ""
    secret_key: str = ""
    webhook_secrets: tuple[str, ...] = ()


def authentication_error(
    authorization: str, credentials: Credentials, accepts_jwt: bool
) -> ErrorKind | None:
    """Return the error of an Authorization header; None if it is valid."""
    scheme, _, token = authorization.partition(" ")
    if not authorization:
        return ErrorKind.NO_KEY
    if scheme == "Bearer" and hmac.compare_digest(token.encode(), credentials.api_key.encode()):
        return None
    if scheme != "Bearer" or not credentials.secret_key or token.count(".") != 2:
        return ErrorKind.WRONG_KEY
    return jwt_error(token, credentials) if accepts_jwt else ErrorKind.KEY_KIND


def jwt_error(token: str, credentials: Credentials) -> ErrorKind | None:
    """Check a JWT of Kling's AccessKey and SecretKey: HS256 with iss, exp and nbf."""
    required = ["iss", "exp", "nbf"]
    key, issuer = credentials.secret_key, credentials.access_key
    try:
        jwt.decode(token, key, ["HS256"], {"require": required}, issuer=issuer)
    except jwt.PyJWTError as error:
        return next(kind for error_type, kind in JWT_ERRORS if isinstance(error, error_type))
    return None
