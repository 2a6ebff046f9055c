"""Backups of a SQLite database: where its keys are, and what is written."""

from __future__ import annotations

from pathlib import Path

from orchestrator.cli.failure import Exit, Failure, exit_of
from orchestrator.cli.terminal import Terminal
from orchestrator.database import schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import backup
from orchestrator.database.sqlite.engine import path_of
from orchestrator.database.sqlite.files import lock_of, logs_of
from orchestrator.foundation.settings import Settings, key_file


def back_up(terminal: Terminal, settings: Settings, file: Path, *, force: bool) -> None:
    """Write a checked copy of the database, and of its keys. Raises `Failure` or `ConfigError`."""
    database = sqlite_file(
        settings, "pg_dump --format=custom --file=backup.dump", "back up secret_keys too"
    )
    source, keys = key_file.path_for(database), key_file.path_for(file)
    own_keys = not settings.secret_keys and source.exists()
    _check_free(database, file, keys)
    taken = [path for path in (file, *([keys] if own_keys else [])) if path.exists()]
    if taken and not force:
        raise Failure(
            f"{taken[0]} is there already",
            hint="name another file; --force replaces it",
            code=Exit.CONFLICT,
        )
    try:
        with backup.draft_of(file) as draft, backup.draft_of(keys) as draft_of_keys:
            revision = backup.copy_to(database, draft)
            if own_keys:
                draft_of_keys.write_bytes(source.read_bytes())
                backup.put(draft_of_keys, keys)
            backup.put(draft, file)
    except OSError as error:
        hint = "nothing was replaced"
        raise Failure(f"{file}: {error.strerror}", hint=hint, code=exit_of(error)) from error
    document = {
        "file": str(file),
        "keys": str(keys) if own_keys else None,
        "revision": revision,
        "bytes": file.stat().st_size,
    }
    terminal.record(document, document, key="file")
    if not own_keys:
        origin = settings.origins().get("secret_keys", "nowhere")
        terminal.notice(f"secret_keys come from {origin}: keep them too, apart from the backup")


def _check_free(database: Path, file: Path, keys: Path) -> None:
    """Raise `Failure` if a backup would replace a file of a database, whatever `--force` says."""
    owned = {path.resolve() for path in (database, key_file.path_for(database), lock_of(database))}
    owned.update(logs_of(database))
    words = [f"{path} belongs to the database" for path in (file, keys) if path.resolve() in owned]
    # A log that is left would be taken for the backup's.
    logs = [path for path in logs_of(file) if path.exists()]
    words += [f"{file} is in use as a database: there is {path}" for path in logs]
    if words:
        raise Failure(words[0], hint="name another file", code=Exit.CONFLICT)


def sqlite_file(settings: Settings, instead: str, also: str) -> Path:
    """Return the file of the database. Raises `Failure` for PostgreSQL, with what to run there."""
    if postgres.is_postgres(settings.database_url):
        url = schema.named(postgres.url_of(settings.database_url))
        raise Failure(
            "the database is on PostgreSQL, which has its own tools for this",
            hint=f"{instead} --dbname={url}\n{also}",
        )
    return path_of(settings.database_url)
