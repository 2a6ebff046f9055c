"""Findings, and checks that run concurrently within a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from orchestrator.cli.failure import Failure
from orchestrator.foundation.errors import OrchestratorError


class Status(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    #: It works, but should be changed.
    WARNING = "warning"
    #: Something will not work.
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: its severity, what was found, and how to fix it."""

    check: str
    status: Status
    found: str
    fix: str = ""

    def shown(self) -> dict[str, str]:
        """Return it as JSON."""
        return {**asdict(self), "status": self.status.value}


#: A check's name and function. An exception is a problem too.
Check = tuple[str, Callable[[], Iterable[Finding]]]


def ok(check: str, found: str) -> Finding:
    """Return a finding that is fine."""
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, fix: str) -> Finding:
    """Return a finding that should be changed."""
    return Finding(check, Status.WARNING, found, fix)


def problem(check: str, found: str, fix: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(check, Status.PROBLEM, found, fix)


def gathered(checks: Sequence[Check], seconds: float) -> list[Finding]:
    """Return the findings of all checks, in their order, after at most `seconds`."""
    found: dict[int, list[Finding]] = {}
    ends = time.monotonic() + seconds

    def look(number: int) -> None:
        found[number] = _found(*checks[number])

    # A hanging name server cannot be interrupted: its thread ends with the process.
    threads = [
        threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(checks))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    late = "the check hangs; run it again, and check the network if that repeats"
    return [
        finding
        for number, (name, _) in enumerate(checks)
        for finding in found.get(number, [problem(name, f"no result within {seconds:g} s", late)])
    ]


def _found(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return [*check()]
    except Failure as failure:
        return [problem(name, "; ".join([failure.message, *failure.more]), failure.hint)]
    except OrchestratorError as error:
        return [problem(name, str(error), "")]
    except Exception as error:
        # A check that fails must not stop the others. The error's text may contain secrets.
        words = f"the check itself failed: {type(error).__name__}"
        return [problem(name, words, "this is a fault of orchestrator")]
