"""The parts of a dialect: endpoints that submit, endpoints that query, task ids, and errors."""

from __future__ import annotations

import hmac
import random
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias

import jwt

from orchestrator.simulator.json_body import JSON, JsonObject, object_at
from orchestrator.simulator.records import Snapshot, TaskIds
from orchestrator.simulator.schema import Check


class ErrorKind(Enum):
    """Why a request is refused. Each dialect has its own status and body for it."""

    NO_KEY = auto()
    WRONG_KEY = auto()
    EARLY_KEY = auto()
    EXPIRED_KEY = auto()
    KEY_KIND = auto()
    INVALID = auto()
    NO_ROUTE = auto()
    NO_METHOD = auto()
    NO_MODEL = auto()
    NOT_FOUND = auto()
    DUPLICATE = auto()
    FULL = auto()
    BROKEN = auto()
    TIMEOUT = auto()


class Refusal(Exception):
    """A request that gets an error response. A `violation` is one that breaks the document."""

    def __init__(self, kind: ErrorKind, message: str = "", *, violation: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.violation = violation


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one simulated vendor accepts, and the secrets it signs its pushes with."""

    api_key: str
    access_key: str = ""
    secret_key: str = ""
    webhook_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """Path and query parameters of a status query, and two ways to look a render up."""

    path: Mapping[str, str]
    args: Mapping[str, str]
    by_task_id: Callable[[str], Snapshot | None]
    by_external_id: Callable[[str], Snapshot | None]


Rules: TypeAlias = Callable[[JsonObject, Mapping[str, str]], Iterator[str]]
#: HTTP status and body of an error.
ErrorReply: TypeAlias = tuple[int, JsonObject]


def no_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """The rules of a document that has none beyond its fields."""
    yield from ()


@dataclass(frozen=True, slots=True)
class SubmitEndpoint:
    """An endpoint that accepts submissions.

    `callback_field` names the object in the body that carries callback URL and external id; None
    if they stand at the top level. `rules` get a body that passed `check`, and the path parameters.
    """

    path: str
    name: str
    check: Check
    capability: Callable[[JsonObject], str]
    response: Callable[[Snapshot], JSON]
    push_body: Callable[[Snapshot], JSON | None]
    callback_field: str | None = None
    rules: Rules = no_rules
    models: frozenset[str] | None = None
    accepts_jwt: bool = False

    def callback_in(self, body: JsonObject) -> JsonObject:
        """Return the object that carries callback URL and external id."""
        return object_at(body, self.callback_field) if self.callback_field else body


@dataclass(frozen=True, slots=True)
class QueryEndpoint:
    """An endpoint that answers status queries, and the query parameters it accepts."""

    path: str
    response: Callable[[StatusQuery], JSON]
    args: frozenset[str] = frozenset()
    accepts_jwt: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor, as its document describes it. `path_values` fixes path parameters."""

    mount: str
    submit_endpoints: tuple[SubmitEndpoint, ...]
    query_endpoints: tuple[QueryEndpoint, ...]
    new_ids: Callable[[random.Random], TaskIds]
    error_reply: Callable[[ErrorKind, str], ErrorReply]
    unique_external_ids: bool = False
    upload_path: str | None = None
    path_values: Mapping[str, str] = field(default_factory=dict)


JWT_ERRORS: Final = (
    (jwt.ExpiredSignatureError, ErrorKind.EXPIRED_KEY),
    (jwt.ImmatureSignatureError, ErrorKind.EARLY_KEY),
    (jwt.PyJWTError, ErrorKind.WRONG_KEY),
)


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


def digits(rng: random.Random, length: int, prefix: str = "") -> str:
    """Return a decimal id of `length` characters that begins with `prefix`."""
    return prefix + "".join(rng.choices(string.digits, k=length - len(prefix)))


def alphanumeric(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=length))


def gateway_ids(task: str, rng: random.Random) -> TaskIds:
    """Return a gateway's own task id with the ids of the Kling task behind it."""
    return TaskIds(task, digits(rng, 18, "86"), digits(rng, 18, "86"))
