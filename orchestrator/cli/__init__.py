"""The command line: `orchestrator`.

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 not allowed, 5 conflict, 6 the job failed (--wait), 7 the wait timed
out, 8 the server cannot be reached, 9 doctor found problems, 130 Ctrl-C.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli import (
    accounts,
    bench,
    completion,
    config,
    deliveries,
    demo,
    doctor,
    events,
    jobs,
    keys,
    listen,
    migrate,
    serve,
    signature,
    submit,
    subscriber_care,
    subscribers,
    watch,
)
from orchestrator.cli.command import Options, Session, colourless, command

_CODES = "Exit codes: " + " ".join((__doc__ or "").partition("Exit codes: ")[2].split())

app = typer.Typer(
    name="orchestrator",
    help="Owns video jobs: submits them, believes signed pushes, polls what stays silent, tells subscribers.",
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
    server: Annotated[str | None, typer.Option(envvar="ORCHESTRATOR_SERVER", help="URL of the server.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="ORCHESTRATOR_API_KEY", help="Its key.")] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML file (ORCHESTRATOR_CONFIG).")] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours (also NO_COLOR).")] = False,
    _shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Keep what stood before the command."""
    if no_color:
        colourless()
    ctx.obj = Options(server or None, api_key or None, config_file)


def version(session: Session) -> None:
    """Print the version."""
    document = {"version": __version__, "python": platform.python_version()}
    session.terminal.record(document, {"orchestrator": __version__, "python": document["python"]}, key="version")


demo.register(app)
serve.register(app)
submit.register(app)
listen.register(app)
doctor.register(app)
migrate.register(app)
command(app, "version", "orchestrator version --json")(version)
watch.register(jobs.app)
app.add_typer(jobs.app, name="jobs")
app.add_typer(events.app, name="events")
subscriber_care.register(subscribers.app)
app.add_typer(subscribers.app, name="subscribers")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.add_typer(signature.app, name="signature")
app.add_typer(signature.secrets, name="secrets")
app.add_typer(config.app, name="config")
app.add_typer(completion.app, name="completion")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the program."""
    # Its name is the same however it was started: completion scripts and hints are made of it.
    app(prog_name="orchestrator")
