"""What every command shares: `--server --api-key --config --json -q`, and how errors end it."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Terminal
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import ConfigError, OrchestratorError
from orchestrator.foundation.extras import missing

if TYPE_CHECKING:
    from orchestrator.cli.access import Access
    from orchestrator.cli.client import Client
    from orchestrator.foundation.settings import Settings

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file (default ./orchestrator.toml).")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Bare ids.")]
Server = Annotated[
    str | None, typer.Option("--server", help="URL of the server (ORCHESTRATOR_SERVER).")
]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours (also NO_COLOR).")]
ApiKey = Annotated[str | None, typer.Option("--api-key", help="Its key (ORCHESTRATOR_API_KEY).")]
#: Stands in a fault of a setting that a flag gave: see `sources.from_flags`.
_TYPED = "(flag --"


@dataclass(slots=True)
class Options:
    """The options given before the command."""

    server: str | None = None
    api_key: str | None = None
    config: Path | None = None
    #: The key is that of the environment: no flag gave it.
    key_is_ambient: bool = False

    @classmethod
    def of(cls, ctx: typer.Context) -> Options:
        """Return the options of the program's context, from flags and environment."""
        given = ctx.params
        ambient = ctx.get_parameter_source("api_key")
        return cls(
            given.get("server") or None,
            given.get("api_key") or None,
            given.get("config_file"),
            ambient is not None and ambient.name == "ENVIRONMENT",
        )

    @property
    def config_is_named(self) -> bool:
        """True if a flag or the environment names the TOML file, so that none is looked for."""
        return bool(self.config or os.environ.get("ORCHESTRATOR_CONFIG"))

    def is_at_fault(self, faults: Sequence[str]) -> bool:
        """True if these faults of settings are what was typed: a flag, or a file not there."""
        absent = self.config is not None and not self.config.is_file()
        return absent or any(_TYPED in fault for fault in faults)


@dataclass(slots=True)
class Session:
    """One run of a command: its server, its credential, its output."""

    options: Options
    terminal: Terminal
    clock: SystemClock = field(default_factory=SystemClock)

    def settings(self, **flags: object) -> Settings:
        """Return this machine's settings. Raises `Failure` with what is wrong with them."""
        # Here, as in the next two methods: a command starts without what it does not need.
        from orchestrator.foundation.settings import load

        try:
            return load(self.options.config, **flags)
        except ConfigError as error:
            lines = str(error).splitlines()
            if self.options.is_at_fault(lines):
                raise Failure(*lines, code=Exit.USAGE) from error
            raise Failure(*lines, hint="`orchestrator config check` tries again") from error

    def allow_private(self) -> list[str]:
        """Return the networks of that setting; none if this machine's settings are unusable."""
        try:
            return self.settings().allow_private
        except Failure:
            return []

    def now(self) -> datetime:
        """Return the present instant."""
        return self.clock.now()

    def access(self) -> Access:
        """Return the server and the credential that belongs to it. Raises `Failure`."""
        from orchestrator.cli.access import access_of

        return access_of(self.options, self.settings, self.clock)

    def client(self) -> AbstractContextManager[Client]:
        """Return a client of the server, closed at the end of the block."""
        from orchestrator.cli.client import Client

        return closing(Client(self.access()))


def command(
    group: typer.Typer, name: str, example: str, **more: Any
) -> Callable[[Callable[..., None]], None]:
    """Register a function of a `Session` as a command with the shared options.

    `example` ends its help.
    """

    def register(function: Callable[..., None]) -> None:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        context, *shared = inspect.signature(_shared, eval_str=True).parameters.values()

        @functools.wraps(function)
        def run(ctx: typer.Context, **given: Any) -> None:
            session = _shared(ctx, **{option.name: given.pop(option.name) for option in shared})
            _guarded(session, functools.partial(function, session, **given))

        keywords = [
            option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in (*own, *shared)
        ]
        parameters = [context, *keywords]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
        run.__annotations__ = {option.name: option.annotation for option in parameters}
        group.command(
            name, help=_reflowed(function.__doc__ or ""), epilog=f"Example: {example}", **more
        )(run)

    return register


def _reflowed(text: str) -> str:
    """Return paragraphs without the source's line breaks: the terminal breaks lines."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def colourless() -> None:
    """Switch colours off from here on; rich reads the variable too."""
    os.environ["NO_COLOR"] = "1"


def _shared(
    ctx: typer.Context,
    json: Json = False,
    quiet: Quiet = False,
    server: Server = None,
    api_key: ApiKey = None,
    config: ConfigFile = None,
    no_color: NoColor = False,
) -> Session:
    if no_color:
        colourless()
    before: Options = ctx.ensure_object(Options)
    options = Options(
        server or before.server,
        api_key or before.api_key,
        config or before.config,
        before.key_is_ambient and not api_key,
    )
    return Session(options, Terminal(json, quiet))


def _guarded(session: Session, run: Callable[[], None]) -> None:
    """Run a command; print what failed and what to do next, and exit with its code."""
    if not gc.isenabled():
        # `main` disables it for the imports, whose objects live as long as the process: not frozen,
        # they would all be looked at now.
        gc.freeze()
        gc.enable()
    try:
        run()
    except Failure as failure:
        if session.terminal.json and failure.document is not None:
            session.terminal.document(failure.document)
        _print(session.terminal, [failure.message, *failure.more], failure.hint, failure.code)
        raise typer.Exit(failure.code) from failure
    except ConfigError as error:
        lines = str(error).splitlines()
        _print(session.terminal, lines)
        code = Exit.USAGE if session.options.is_at_fault(lines) else Exit.ERROR
        raise typer.Exit(code) from error
    except OrchestratorError as error:
        _print(session.terminal, [str(error) or type(error).__name__])
        raise typer.Exit(Exit.ERROR) from error
    except ModuleNotFoundError as error:
        absent = missing((error.name or "").partition(".")[0])
        if absent is None:
            raise
        _print(session.terminal, [str(absent)])
        raise typer.Exit(Exit.ERROR) from error
    except (KeyboardInterrupt, typer.Abort):
        # `Abort`: Ctrl-C, or the end of the input, at a question.
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of the pipe has gone (`| head`). Python's last flush goes to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None


def _print(
    terminal: Terminal, message: Sequence[str], hint: str = "", code: Exit = Exit.ERROR
) -> None:
    first, *more = message
    if code is Exit.INTERRUPTED:
        terminal.notice(first, more=more)
    else:
        terminal.notice(f"error: {first}", "red" if more else "bold red", more)
    for line in hint.splitlines():
        terminal.notice(f"  {line.strip()}")
