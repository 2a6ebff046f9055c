"""The command line: `orchestrator`.

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 not allowed, 5 conflict, 6 the job failed
(--wait), 7 the wait timed out, 8 the server cannot be reached, 9 doctor found problems, 130 Ctrl-C.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import platform
import sys
from collections.abc import Iterator, MutableMapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator import __version__
from orchestrator.cli.command import Options, Session, colourless, command

_CODES = "Exit codes: " + " ".join((__doc__ or "").partition("Exit codes: ")[2].split())

#: Commands in the order of the help, and the modules of each: only those of the command that runs
#: are imported.
_MODULES = {
    "demo": ("demo",),
    "serve": ("serve",),
    "submit": ("submit",),
    "listen": ("listen",),
    "doctor": ("doctor",),
    "migrate": ("migrate",),
    "backup": ("backup",),
    "restore": ("restore",),
    "version": (),
    "jobs": ("jobs", "job_retries", "job_sharing", "watch"),
    "events": ("events",),
    "subscribers": ("subscribers",),
    "destinations": ("destinations",),
    "deliveries": ("deliveries",),
    "accounts": ("accounts",),
    "keys": ("keys",),
    "signature": ("signature",),
    "secrets": ("secrets",),
    "config": ("config",),
    "completion": ("completion",),
    "bench": ("bench",),
}


@cache
def _registered(name: str) -> typer.Typer:
    """Return a program with one command or group of commands."""
    alone = typer.Typer()
    if name == "version":
        command(alone, name, "orchestrator version --json")(version)
        return alone
    first, *more = (importlib.import_module(f"{__name__}.{module}") for module in _MODULES[name])
    if not hasattr(first, "app"):
        first.register(alone)
        return alone
    for module in more:
        module.register(first.app)
    alone.add_typer(first.app, name=name)
    return alone


class _Commands(MutableMapping[str, Any]):
    """Commands by name, each built on first access."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = dict.fromkeys(_MODULES)

    def __getitem__(self, name: str) -> Any:
        made = self._made[name]
        if made is None:
            made = self._made[name] = typer.main.get_group(_registered(name)).commands[name]
        return made

    def __setitem__(self, name: str, made: Any) -> None:
        self._made[name] = made

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class _Program(TyperGroup):
    """The program: one of its commands runs."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


app = typer.Typer(
    name="orchestrator",
    cls=_Program,
    help="Runs video jobs at vendors: submits, receives signed pushes, polls when none comes, "
    "notifies subscribers.",
    epilog=_CODES,
    no_args_is_help=True,
    # Tracebacks with local variables would print secrets.
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orchestrator {__version__}")
        raise typer.Exit


@app.callback()
def before(
    ctx: typer.Context,
    server: Annotated[
        str | None, typer.Option(envvar="ORCHESTRATOR_SERVER", help="URL of the server.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="ORCHESTRATOR_API_KEY", help="Its key.")
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="TOML file (ORCHESTRATOR_CONFIG).")
    ] = None,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours (also NO_COLOR).")
    ] = False,
    _shown: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Keep the options given before the command."""
    if no_color:
        colourless()
    ctx.obj = Options.of(ctx)


def version(session: Session) -> None:
    """Print the version."""
    document = {"version": __version__, "python": platform.python_version()}
    session.terminal.record(
        document, {"orchestrator": __version__, "python": document["python"]}, key="version"
    )


def main() -> None:
    """Run the program."""
    # Imports leave almost no garbage: collecting it takes a third of a command's time.
    gc.disable()
    atexit.register(gc.freeze)
    # No command has a use for plug-ins of pydantic. To look for them reads the metadata of every
    # installed distribution.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot encode a character shows its escape; the command goes on.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # One name however it was started: completion scripts and hints contain it.
    app(prog_name="orchestrator")
