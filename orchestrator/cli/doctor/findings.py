"""What a check finds, and many checks side by side that all end in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from orchestrator.cli.failure import Failure
from orchestrator.foundation.errors import OrchestratorError


class Status(StrEnum):
    """How it is."""

    OK = "ok"
    #: It works, and better were not so.
    WARNING = "warning"
    #: Something will not work.
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, what was found, and what to do about it."""

    check: str
    status: Status
    found: str
    fix: str = ""

    def shown(self) -> dict[str, str]:
        """Return it as JSON."""
        return {**asdict(self), "status": self.status.value}


#: A check: its name, and what looks. What it raises is a problem too.
Check = tuple[str, Callable[[], Iterable[Finding]]]


def ok(check: str, found: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, fix: str) -> Finding:
    """Return that something better were not so."""
    return Finding(check, Status.WARNING, found, fix)


def problem(check: str, found: str, fix: str) -> Finding:
    """Return that something will not work."""
    return Finding(check, Status.PROBLEM, found, fix)


def gathered(checks: Sequence[Check], seconds: float) -> list[Finding]:
    """Return what all checks found, in their order, after at most that many seconds."""
    found: dict[int, list[Finding]] = {}
    ends = time.monotonic() + seconds

    def look(number: int) -> None:
        found[number] = _found(*checks[number])

    # A name server that hangs cannot be interrupted: such a thread is left behind when the process ends.
    threads = [
        threading.Thread(target=look, args=(number,), daemon=True) for number in range(len(checks))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    late = "what it looks at hangs; run it again, and look at the network if it says this again"
    return [
        finding
        for number, (name, _) in enumerate(checks)
        for finding in found.get(number, [problem(name, f"no result within {seconds:g} s", late)])
    ]


def _found(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return [*check()]
    except Failure as failure:
        return [problem(name, failure.message, failure.hint)]
    except OrchestratorError as error:
        return [problem(name, str(error), "")]
    except Exception as error:
        # One check that fails must not take the others with it. What the error says may hold secrets.
        return [
            problem(
                name,
                f"the check itself failed: {type(error).__name__}",
                "this is a fault of orchestrator",
            )
        ]
