"""What an attack is: a function of an arena that records in a report what held and what did not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.attack.arena import Arena


class Skipped(Exception):
    """The machine lacks what the attack needs; the message names it."""


@dataclass
class Report:
    """What one attack found."""

    #: Figures for the table, by name.
    figures: dict[str, str] = field(default_factory=dict)
    #: A sentence for each check that failed.
    broken: list[str] = field(default_factory=list)

    def check(self, held: bool, otherwise: str) -> None:
        """Record a failed check."""
        if not held:
            self.broken.append(otherwise)

    def at_most(self, name: str, value: float, limit: float, unit: str = "") -> None:
        """Record a figure, and a failed check if it is above its limit."""
        self.figures[name] = f"{value:.6g}{unit}"
        self.check(value <= limit, f"{name} {value:.6g}{unit}, at most {limit:.6g}{unit}")


@dataclass(frozen=True)
class Attack:
    """An attack, and the service it needs."""

    name: str
    run: Callable[[Arena, Report], Awaitable[None]]
    #: Changed variables of the service's environment.
    environment: Mapping[str, str]
    #: Seconds after which it counts as not held.
    timeout: float
    #: True if it waits more than it loads: it runs beside the others.
    patient: bool
    #: True if it starts a service itself.
    bare: bool


#: All attacks, in the order of their definition.
ATTACKS: list[Attack] = []
Function = Callable[["Arena", Report], Awaitable[None]]


def attack(
    name: str, *, timeout: float = 60, patient: bool = False, bare: bool = False, **environment: str
) -> Callable[[Function], Function]:
    """Register an attack."""

    def register(run: Function) -> Function:
        ATTACKS.append(Attack(name, run, environment, timeout, patient, bare))
        return run

    return register
