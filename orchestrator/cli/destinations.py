"""`orchestrator destinations`: the kinds of addresses that subscribers may have."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from orchestrator.cli.columns import Table
from orchestrator.cli.command import Session, command
from orchestrator.cli.lookup import DESTINATION
from orchestrator.cli.options import After, Limit
from orchestrator.schemas import DestinationKind, DestinationOption

app = typer.Typer(no_args_is_help=True, help="Kinds of addresses that events can be sent to.")


def _names(options: Mapping[str, DestinationOption]) -> str:
    """Return the names of options; those that are required are marked."""
    return ",".join(name + "*" * option.required for name, option in options.items())


TABLE = Table(
    DestinationKind,
    "kind",
    "example",
    ("options", lambda row: _names(row.options)),
    ("credentials", lambda row: _names(row.credentials)),
    ("missing", lambda row: "" if row.installed else f"orchestrator[{row.extra}]"),
    "origin",
    first=("kind", "example"),
)


@command(app, "ls", "orchestrator destinations ls")
def ls(session: Session, limit: Limit = 200, after: After = None) -> None:
    """List kinds with their options and credentials; required ones are marked with `*`.

    A kind whose library is missing names what to install with pip where the service runs.
    """
    with session.client() as client:
        page = client.get(DESTINATION.page, DESTINATION.path, limit=limit, after=after)
    session.terminal.listing(page, TABLE)
