"""`orchestrator migrate`: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.command import Session, command


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "migrate", "orchestrator migrate --database-url sqlite:///orchestrator.db")(
        migrate
    )


def migrate(
    session: Session,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if there is something to do.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="Move everything in this SQLite database to the empty one on PostgreSQL.",
        ),
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="sqlite:///orchestrator.db or postgresql://...")
    ] = None,
) -> None:
    """Bring the database to the schema this program needs: all the way, or not at all.

    With --from, move to PostgreSQL. A move that was interrupted continues when it is run again.
    """
    if check and source is not None:
        raise typer.BadParameter("a move has nothing to check; leave it away", param_hint="--check")
    settings = session.settings(database_url=database_url)
    # Here: commands that only call a server start without a database.
    from orchestrator.cli.migration import keys_of, run

    if source is not None:
        from orchestrator.cli import move

        move.run(session.terminal, settings, source)
        return
    run(session.terminal, settings.database_url, keys_of(settings), check=check)
