"""The move of a SQLite database to PostgreSQL: what it needs, its progress and its report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Terminal, counted
from orchestrator.database import schema
from orchestrator.database.digest import TableDigest
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres.sessions import check_unused
from orchestrator.database.sqlite.engine import Lock, path_of
from orchestrator.database.sqlite.snapshot import snapshot
from orchestrator.engine.encryption import check_keys
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import NO_KEYS, Settings, key_file
from orchestrator.foundation.signing.secret_keys import Keys

#: Is called with what is done, the table, and the rows since.
Report = Callable[[str, str, int], object]


def run(terminal: Terminal, settings: Settings, source: str) -> None:
    """Move everything. Raises `Failure` or `ConfigError`; then the source is as it was."""
    if not postgres.is_postgres(settings.database_url):
        raise Failure(
            "--from moves to PostgreSQL, and database_url is none",
            hint="set ORCHESTRATOR_DATABASE_URL to postgresql://user:password@host/database",
            code=Exit.USAGE,
        )
    file = _file_of(source)
    keys = _keys(settings, file)
    target = postgres.engine_of(settings.database_url, 1, timeouts=False)
    # Here: it imports the driver, whose absence `engine_of` explains.
    from orchestrator.database.postgres import move

    try:
        with Lock(source), snapshot(file) as reading:
            schema.check(reading)
            check_keys(reading, keys)
            with postgres.as_config_error(), target.connect() as tx:
                check_unused(tx)
            sizes = move.sizes(reading)
            with _progress(terminal, sizes) as report:
                digests = move.move(reading, target, report)
    finally:
        target.dispose()
    _say(terminal, str(file), schema.named(target.url), digests)


def _file_of(source: str) -> Path:
    """Return the file of a SQLite database that is there. Raises `Failure`."""
    try:
        file = path_of(source)
    except (ConfigError, sa.exc.ArgumentError) as error:
        raise Failure(
            "--from names no SQLite database",
            hint="write it like sqlite:///orchestrator.db",
            code=Exit.USAGE,
        ) from error
    if not file.is_file():
        # The lock would make it.
        hint = "--from names the database to move"
        raise Failure(f"{file} is not there", hint=hint, code=Exit.USAGE)
    return file


def _keys(settings: Settings, file: Path) -> Keys:
    """Return the keys of the service to be. Raises `Failure` unless it has those of the file."""
    given = [key.get_secret_value() for key in settings.secret_keys]
    path = key_file.path_for(file)
    if path.exists() and (missing := set(key_file.read(path)) - set(given)):
        raise Failure(
            f"secret_keys lacks {len(missing)} of the keys in {path}: callback URLs and stored "
            "secrets would be invalid",
            hint=f"set secret_keys to its lines; as a secret file: paste -sd, {path}",
        )
    if not given:
        raise Failure(NO_KEYS)
    return Keys(given)


@contextlib.contextmanager
def _progress(terminal: Terminal, sizes: Mapping[str, int]) -> Iterator[Report]:
    """Yield what shows progress: a bar on a terminal, otherwise a line a table and pass."""
    if not terminal.live:
        begun: set[tuple[str, str]] = set()

        def line(doing: str, table: str, _rows: int) -> None:
            if sizes[table] and (doing, table) not in begun:
                begun.add((doing, table))
                terminal.notice(f"{doing} {table}: {counted(sizes[table], 'row')}")

        yield line
        return
    columns = TextColumn("{task.description}"), BarColumn(20), TaskProgressColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        # Every row is copied, then compared.
        task = shown.add_task("", total=2 * sum(sizes.values()))
        yield lambda doing, table, rows: shown.update(
            task, description=f"{doing} {table}", advance=rows
        )


def _say(terminal: Terminal, source: str, name: str, digests: Mapping[str, TableDigest]) -> None:
    if terminal.json:
        tables = {table: digest._asdict() for table, digest in digests.items()}
        terminal.document({"database": name, "source": source, "tables": tables})
    elif terminal.quiet:
        terminal.say(name)
    else:
        cells = [[name, str(rows), digest[:16]] for name, (rows, digest) in digests.items()]
        terminal.table(["table", "rows", "digest"], cells)
        terminal.notice(
            f"{name} has all of {source}, with the same counts and digests",
            more=["set database_url to it, and start no service on the file again: rename it"],
        )
