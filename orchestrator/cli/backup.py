"""`orchestrator backup`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "backup", "orchestrator backup /backups/orchestrator.db")(backup)


def backup(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The file to write, and its keys to FILE.keys.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an older backup.")] = False,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///orchestrator.db")] = None,
) -> None:
    """Copy a SQLite database and its keys, also while the service runs.

    The copy is checked, readable by its owner alone, and as secret as the database.
    """
    settings = session.settings(database_url=database_url)
    # Here: commands that only call a server start without a database.
    from orchestrator.cli.sqlite_backup import back_up

    back_up(session.terminal, settings, file.absolute(), force=force)
