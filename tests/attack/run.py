"""Runs attacks and prints the table."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.attack import (  # noqa: F401  (they register their attacks)
    command_line,
    connections,
    deliveries,
    outages,
    peers,
    pushes,
    reading,
    request_bodies,
    request_heads,
    secrecy,
    terminals,
)
from tests.attack.arena import arena
from tests.attack.attack import ATTACKS, Attack, Report, Skipped

__all__ = ["ATTACKS", "execute", "table"]

_WIDTHS = (46, 8, 9)


@dataclass
class Run:
    """One attack, and what became of it: `held`, `NOT HELD` or `not run`."""

    attack: Attack
    report: Report
    seconds: float
    skipped: str = ""

    @property
    def word(self) -> str:
        """The verdict."""
        return "NOT HELD" if self.report.broken else "not run" if self.skipped else "held"


async def execute(attack: Attack) -> Run:
    """Run one attack. An error in it counts as not held."""
    report, started, skipped = Report(), time.monotonic(), ""
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    try:
        async with (
            asyncio.timeout(attack.timeout),
            arena(folder, report, attack.environment, start=not attack.bare) as opened,
        ):
            await attack.run(opened, report)
            if opened.service.child is not None:
                await opened.lives()
    except Skipped as reason:
        skipped = str(reason)
    except TimeoutError:
        report.broken.append(f"not over after {attack.timeout:.0f} s")
    except Exception as error:
        report.broken.append(f"{type(error).__name__}: {error}"[:300])
    shutil.rmtree(folder, ignore_errors=True)
    return Run(attack, report, time.monotonic() - started, skipped)


async def table(name: str) -> bool:
    """Run the attacks whose name contains this. Return True if all are held.

    Those that wait more than they load run beside the others.
    """
    chosen = [attack for attack in ATTACKS if name.lower() in attack.name.lower()]
    print(_line("attack", "verdict", "seconds", "figures"), flush=True)
    async with asyncio.TaskGroup() as lanes:
        patient = [each for each in chosen if each.patient]
        loading = [each for each in chosen if not each.patient]
        parts = (loading, patient[::2], patient[1::2])
        tasks = [lanes.create_task(_one_by_one(part)) for part in parts]
    runs = [run for task in tasks for run in task.result()]
    counts = [sum(run.word == word for run in runs) for word in ("held", "NOT HELD", "not run")]
    print(f"{len(runs)} attacks: {counts[0]} held, {counts[1]} not held, {counts[2]} not run")
    return bool(runs) and not counts[1]


async def _one_by_one(attacks: Sequence[Attack]) -> list[Run]:
    return [_printed(await execute(attack)) for attack in attacks]


def _printed(run: Run) -> Run:
    figures = ", ".join(f"{name} {value}" for name, value in run.report.figures.items())
    print(_line(run.attack.name, run.word, f"{run.seconds:.1f}", run.skipped or figures))
    for fault in dict.fromkeys(run.report.broken):
        print(textwrap.indent(textwrap.shorten(fault, 240), "  ! "))
    sys.stdout.flush()
    return run


def _line(*cells: str) -> str:
    *padded, last = cells
    return " ".join((*map(str.ljust, padded, _WIDTHS), last)).rstrip()
