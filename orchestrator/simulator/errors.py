"""Errors of a simulated vendor: why a request is refused."""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

from orchestrator.simulator.json_body import JsonObject

#: HTTP status and body of an error.
ErrorReply: TypeAlias = tuple[int, JsonObject]


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
    """A request that gets an error response. `violation`: it breaks the document."""

    def __init__(self, kind: ErrorKind, message: str = "", *, violation: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.violation = violation
