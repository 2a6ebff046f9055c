"""How a command ends when it does not end well: exit codes that scripts rely on, and what to do next."""

from __future__ import annotations

from enum import IntEnum

from orchestrator.foundation.errors import OrchestratorError


class Exit(IntEnum):
    """What the process returns."""

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


class Failure(OrchestratorError):
    """A command cannot do what it was asked. `hint` is what to do next, `document` what the server said of it.

    `later` is in how many seconds the same may work, of its own accord; None if it will not.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: Exit = Exit.ERROR,
        document: object | None = None,
        later: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.document = document
        self.later = later
