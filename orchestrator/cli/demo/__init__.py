"""`orchestrator demo`: every dialect and capability once, with lost pushes, and checked."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record
from orchestrator.foundation.extras import require


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "demo", "orchestrator demo --drop-push 1")(demo)


def demo(
    session: Session,
    seed: Annotated[int, typer.Option(help="Seed of the simulator's random numbers.")] = 1,
    speed: Annotated[float, typer.Option(min=0.5, max=4, help="2 is twice as fast.")] = 1.0,
    drop_push: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the vendors' pushes that get lost.")
    ] = 0.33,
    duplicate_push: Annotated[
        float, typer.Option(min=0, max=1, help="Share that comes twice.")
    ] = 0.1,
    fail_render: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the renders that fail.")
    ] = 0.0,
    odd_shapes: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of answers in odd shapes that gateways really use."),
    ] = 0.25,
) -> None:
    """Run simulated vendors, the real service and a subscriber. Nothing leaves this machine."""
    # Here: commands that only call a server start without the simulator and the service.
    require("demo")
    from orchestrator.cli.demo.run import Scenario, run

    try:
        scenario = Scenario(seed, speed, drop_push, duplicate_push, fail_render, odd_shapes)
        summary, broken = run(scenario)
    except KeyboardInterrupt:
        raise Failure("stopped; nothing was left behind", code=Exit.INTERRUPTED) from None
    if session.terminal.json:
        session.terminal.line(summary)
    else:
        session.terminal.say(*for_people(summary).splitlines())
    if broken:
        raise Failure("not every promise was kept:", *broken)


def for_people(summary: Record) -> str:
    """Return the summary in sentences."""
    deliveries, kinds = summary["deliveries"], summary["delivered_by_kind"]
    duplicates, verified = summary["duplicate_completions"], summary["verified_signatures"]
    ways = ", ".join(f"{count} by {way}" for way, count in summary["resolved_by"].items())
    signed = "every signature" if verified >= kinds["webhook"] else f"{verified} signatures"
    lines = [
        f"{summary['succeeded']} of {summary['jobs']} jobs succeeded"
        f" in {summary['seconds']} s: {ways}",
        f"{deliveries['delivered']} deliveries arrived:"
        f" {kinds['webhook']} webhooks ({signed} verified), {kinds['slack']} Slack messages",
        f"{duplicates or 'no'} completion{'s were' if duplicates > 1 else ' was'} delivered twice",
    ]
    lines += [f"{deliveries['dead']} deliveries were given up"] if deliveries["dead"] else []
    lines += [
        f"{vendor} has no pushes: its jobs are always resolved by poll"
        for vendor in summary["without_pushes"]
    ]
    return "\n".join(lines)
