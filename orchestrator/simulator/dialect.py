"""What a dialect is made of: doors for submissions, doors for questions, names, and words for trouble."""

from __future__ import annotations

import hmac
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import jwt

from orchestrator.simulator.render import Names, Sight
from orchestrator.simulator.shapes import JSON, Check, JsonObject


class Trouble(Enum):
    """Why a request is refused; each dialect has its own words for them."""

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
    """A request that is answered with an error. `blame` says whether the caller broke the document."""

    def __init__(self, trouble: Trouble, message: str = "", *, blame: bool = False) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.message = message
        self.blame = blame


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer with a JSON body."""

    status: int
    body: JSON


@dataclass(frozen=True, slots=True)
class Keys:
    """The credentials one simulated vendor accepts, and the secrets it signs its pushes with."""

    api_key: str
    access_key: str = ""
    secret_key: str = ""
    webhook_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A status question: path and query values, and the two ways to look a render up."""

    path: Mapping[str, str]
    args: Mapping[str, str]
    by_task_id: Callable[[str], Sight | None]
    by_external_id: Callable[[str], Sight | None]


def no_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """A document that states no rule beyond the fields' own."""
    yield from ()


@dataclass(frozen=True, slots=True)
class Entrance:
    """A door for submissions. `hooks` is the object, inside the body, that carries the callback URL and external id."""

    path: str
    endpoint: str
    check: Check
    capability: Callable[[JsonObject], str]
    receipt: Callable[[Sight], JSON]
    push: Callable[[Sight], JSON | None]
    hooks: str | None = None
    rules: Callable[[JsonObject, Mapping[str, str]], Iterator[str]] = no_rules
    models: frozenset[str] | None = None
    takes_jwt: bool = False


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A door for status questions, and the query parameters it knows."""

    path: str
    answer: Callable[[Ask], JSON]
    args: frozenset[str] = frozenset()
    takes_jwt: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """One vendor, as its document describes it."""

    mount: str
    entrances: tuple[Entrance, ...]
    inquiries: tuple[Inquiry, ...]
    names: Callable[[random.Random], Names]
    trouble: Callable[[Trouble, str], Answer]
    unique_external_ids: bool = False
    upload: str | None = None
    path_values: Mapping[str, str] = field(default_factory=dict)


JWT_TROUBLES: Final = (
    (jwt.ExpiredSignatureError, Trouble.EXPIRED_KEY),
    (jwt.ImmatureSignatureError, Trouble.EARLY_KEY),
    (jwt.PyJWTError, Trouble.WRONG_KEY),
)


def key_trouble(authorization: str, keys: Keys, takes_jwt: bool) -> Trouble | None:
    """What is wrong with an Authorization header; None if nothing is."""
    scheme, _, token = authorization.partition(" ")
    if not authorization:
        return Trouble.NO_KEY
    if scheme == "Bearer" and hmac.compare_digest(token.encode(), keys.api_key.encode()):
        return None
    if scheme != "Bearer" or not keys.secret_key or token.count(".") != 2:
        return Trouble.WRONG_KEY
    return jwt_trouble(token, keys) if takes_jwt else Trouble.KEY_KIND


def jwt_trouble(token: str, keys: Keys) -> Trouble | None:
    """Kling's AccessKey and SecretKey: HS256 with iss, exp and nbf."""
    try:
        jwt.decode(
            token,
            keys.secret_key,
            algorithms=["HS256"],
            issuer=keys.access_key,
            options={"require": ["iss", "exp", "nbf"]},
        )
    except jwt.PyJWTError as error:
        return next(trouble for kind, trouble in JWT_TROUBLES if isinstance(error, kind))
    return None


def digits(rng: random.Random, length: int, prefix: str = "") -> str:
    """A decimal id of `length` characters that begins with `prefix`."""
    return prefix + "".join(rng.choices("0123456789", k=length - len(prefix)))


def letters(rng: random.Random, length: int) -> str:
    """An id of letters and digits."""
    return "".join(
        rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=length)
    )
