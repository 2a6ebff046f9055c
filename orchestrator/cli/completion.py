"""`orchestrator completion`: scripts for Tab completion of commands, ids and names."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from typer.completion import install_callback, show_callback

app = typer.Typer(no_args_is_help=True, help="Complete commands, ids and names with Tab.")

Shell = Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="bash, zsh or fish.")]


@app.command("show", epilog='Example: eval "$(orchestrator completion show bash)"')
def show(ctx: typer.Context, shell: Shell) -> None:
    """Print the script for a shell."""
    show_callback(ctx, ctx.command.params[0], shell)


@app.command("install", epilog="Example: orchestrator completion install zsh")
def install(ctx: typer.Context, shell: Shell) -> None:
    """Install the script where the shell finds it at its next start."""
    install_callback(ctx, ctx.command.params[0], shell)
