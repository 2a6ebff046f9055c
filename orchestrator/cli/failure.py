"""How a command fails: exit codes that scripts rely on, and what to do next."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from orchestrator.foundation.errors import OrchestratorError


class Exit(IntEnum):
    """Exit code of the process."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    AUTH = 4
    CONFLICT = 5
    JOB_FAILED = 6
    WAIT_TIMED_OUT = 7
    UNREACHABLE = 8
    PROBLEMS = 9
    INTERRUPTED = 130


def exit_of(error: OSError) -> Exit:
    """Return the exit code for a named file that cannot be written: USAGE if it has no folder."""
    is_wrong = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    return Exit.USAGE if is_wrong else Exit.ERROR


class Failure(OrchestratorError):
    """A command failed. `more` are lines below the message, `hint` is what to do next, in lines.

    `document` is what the server answered; `later` the seconds after which the same request may
    succeed, None if it never will.
    """

    def __init__(
        self,
        message: str,
        *more: str,
        hint: str = "",
        code: Exit = Exit.ERROR,
        document: dict[str, Any] | None = None,
        later: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.more = more
        self.hint = hint
        self.code = code
        self.document = document
        self.later = later
