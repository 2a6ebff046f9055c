"""`orchestrator demo`: every dialect and capability once, a share of the pushes dropped, every promise checked."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "demo", "orchestrator demo --drop-push 1")(demo)


def demo(
    session: Session,
    seed: Annotated[int, typer.Option(help="The same seed drops the same pushes.")] = 1,
    speed: Annotated[float, typer.Option(min=0.5, max=4, help="2 is twice as fast.")] = 1.0,
    drop_push: Annotated[float, typer.Option(min=0, max=1, help="Share of the vendors' pushes that get lost.")] = 0.33,
    duplicate_push: Annotated[float, typer.Option(min=0, max=1, help="Share that comes twice.")] = 0.1,
    fail_render: Annotated[float, typer.Option(min=0, max=1, help="Share of the renders that fail.")] = 0.0,
) -> None:
    """Run everything on this machine: simulated vendors, the real service, a subscriber. Nothing leaves it."""
    # Here, so that commands which only talk to a server start without the simulator and the service.
    from orchestrator.cli.demo_run import Play, run

    try:
        summary, broken = run(Play(seed, speed, drop_push, duplicate_push, fail_render))
    except KeyboardInterrupt:
        raise Failure("stopped; nothing was left behind", code=Exit.INTERRUPTED) from None
    if session.terminal.json:
        session.terminal.line(summary)
    else:
        session.terminal.say(spoken(summary))
    if broken:
        raise Failure("not every promise was kept:\n" + "\n".join(f"  {promise}" for promise in broken))


def spoken(summary: Record) -> str:
    """Return the summary in words."""
    told, sent = summary["resolved_by"], summary["deliveries"]
    ways = ", ".join(f"{count} by {way}" for way, count in told.items())
    lines = (
        f"{summary['succeeded']} of {summary['jobs']} jobs succeeded in {summary['seconds']} s, told {ways}",
        f"{sent['delivered']} deliveries arrived, {sent['dead']} were given up",
        f"{summary['verified_signatures']} signatures verified",
        f"{summary['duplicate_completions']} completions told twice",
    )
    return "\n".join(lines)
