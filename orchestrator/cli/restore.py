"""`orchestrator restore`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "restore", "orchestrator restore /backups/orchestrator.db")(restore)


def restore(
    session: Session,
    file: Annotated[
        Path | None, typer.Argument(help="The backup; its keys are in FILE.keys.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="The database is restored already, as by pg_restore.")
    ] = False,
    nothing_sent: Annotated[
        bool, typer.Option("--nothing-sent", help="No job was submitted after the backup was made.")
    ] = False,
    database_url: Annotated[
        str | None, typer.Option(help="sqlite:///orchestrator.db or postgresql://...")
    ] = None,
) -> None:
    """Put a backup in the place of the database, which is kept aside. Stop the service first.

    Jobs that are queued in the backup are looked up at their vendors before they are sent, since
    they may have been submitted after it was made.
    """
    if (file is None) is not in_place:
        raise typer.BadParameter("name a backup, or pass --in-place", param_hint="FILE")
    if in_place and nothing_sent:
        raise typer.BadParameter(
            "leaves nothing to do with --in-place", param_hint="--nothing-sent"
        )
    settings = session.settings(database_url=database_url)
    # Here: commands that only call a server start without a database.
    from orchestrator.cli import restoration

    now = session.now()
    if file is None:
        restoration.in_place(session.terminal, settings, now)
    else:
        restoration.from_file(
            session.terminal, settings, file.absolute(), now, nothing_sent=nothing_sent
        )
