"""`orchestrator serve`: its options."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from orchestrator.cli.command import Session, command


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "serve", "orchestrator serve --port 8080 --public-url https://hooks.example.com")(
        serve
    )


def serve(
    session: Session,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 picks a free one (default 8080).")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="sqlite:///orchestrator.db or postgresql://...")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="What vendors can reach; callback URLs begin with it.")
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="all, api or worker (default all; SQLite: all).")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes behind this port (SQLite: 1).")
    ] = 1,
) -> None:
    """Run the service until SIGTERM or Ctrl-C, then finish the work in progress."""
    # Imports leave almost no garbage: collecting it takes a third of the start. `tune_gc` enables
    # collection.
    gc.disable()
    try:
        settings = session.settings(
            host=host, port=port, database_url=database_url, public_url=public_url, role=role
        )
        # Here: commands that only call a server start without the service.
        from orchestrator.cli.service import run

        run(settings, workers)
    finally:
        gc.enable()
