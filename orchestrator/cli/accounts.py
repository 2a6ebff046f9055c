"""`orchestrator accounts`: configured vendors, and whether their pushes arrive."""

from __future__ import annotations

import typer

from orchestrator.cli.command import Session, command
from orchestrator.cli.terminal import Columns, moment

app = typer.Typer(no_args_is_help=True, help="Configured vendors.")

COLUMNS: Columns = {
    "name": lambda one: one["name"],
    "vendor": lambda one: one["vendor"],
    "in flight": lambda one: one.get("in_flight"),
    "pushes": lambda one: one.get("pushes"),
    "missed": lambda one: one.get("pushes_missed"),
    "polls": lambda one: one.get("polls"),
    "last push": lambda one: moment(one.get("last_push_at")),
    "paused until": lambda one: moment(one.get("paused_until")),
    "capabilities": lambda one: ",".join(one.get("capabilities") or []),
}


@command(app, "ls", "orchestrator accounts ls")
def ls(session: Session) -> None:
    """List accounts: what is in flight, how many pushes came, and how many had to be asked for."""
    with session.client() as client:
        session.terminal.listing(client.get("/v1/accounts"), COLUMNS)
