"""Restoring a database from a backup: its keys, its schema, its jobs, and what was there before."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.migration import changing, keys_of
from orchestrator.cli.sqlite_backup import sqlite_file
from orchestrator.cli.terminal import Terminal, counted
from orchestrator.database import schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres.sessions import check_unused
from orchestrator.database.sqlite import backup
from orchestrator.database.sqlite.engine import Lock, as_config_error, checked_path, engines
from orchestrator.database.sqlite.files import logs_of
from orchestrator.database.sqlite.snapshot import driver_of
from orchestrator.engine.encryption import check_keys
from orchestrator.foundation.settings import Settings, key_file
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.jobs import restored
from orchestrator.jobs.restored import Resumed


class _KeysToUse(NamedTuple):
    """The keys of the restored service, and the file they are copied from, if they are."""

    keys: Keys
    copied: Path | None = None


def from_file(
    terminal: Terminal, settings: Settings, file: Path, now: datetime, *, nothing_sent: bool
) -> None:
    """Replace the database by a backup. Raises `Failure` or `ConfigError`; then all is as it was.

    `nothing_sent`: jobs continue as they are in the backup.
    """
    dump = "pg_restore --clean --if-exists backup.dump"
    database = sqlite_file(settings, dump, "then `orchestrator restore --in-place`")
    checked_path(settings.database_url)
    if not file.is_file() or (database.exists() and file.samefile(database)):
        hint = "name a file that `orchestrator backup` wrote"
        raise Failure(f"{file} is no backup", hint=hint, code=Exit.USAGE)
    keys = _keys(settings, file, database)
    # A symbolic link goes on leading to the database.
    real = database.resolve()
    aside = real.with_name(f"{real.name}.before-{now:%Y%m%dT%H%M%S}")
    with Lock(settings.database_url), backup.draft_of(real) as draft:
        backup.copy_to(file, draft)
        resumed = _prepared(draft, keys.keys, None if nothing_sent else now)
        backup.checked_revision(draft)
        kept = _put(draft, database, keys.copied, aside)
    _say(terminal, database, aside if kept else None, resumed)


def in_place(terminal: Terminal, settings: Settings, now: datetime) -> None:
    """Have the jobs of a database looked up that was restored by other means."""
    keys, url = keys_of(settings), settings.database_url
    with changing(url) as tx:
        if postgres.is_postgres(url):
            check_unused(tx)
        schema.check(tx)
        if keys is not None:
            check_keys(tx, keys)
        resumed = restored.resume(tx, now)
        name = schema.named(tx.engine.url)
    _say(terminal, name, None, resumed)


def _keys(settings: Settings, file: Path, database: Path) -> _KeysToUse:
    """Return the keys of the restored service. Raises `Failure` if there are none."""
    given = [key.get_secret_value() for key in settings.secret_keys]
    backed_up, own = key_file.path_for(file), key_file.path_for(database)
    if given:
        return _KeysToUse(Keys(given))
    if backed_up.exists():
        return _KeysToUse(Keys(key_file.read(backed_up)), backed_up)
    if own.exists():
        return _KeysToUse(Keys(key_file.read(own)))
    raise Failure(
        f"{backed_up} is not there, and secret_keys is not set: without its keys, callback URLs "
        "and stored secrets of the backup are invalid",
        hint=f"put the keys of the backup in {backed_up}, or set secret_keys",
    )


def _prepared(draft: Path, keys: Keys, now: datetime | None) -> Resumed | None:
    """Bring a copy to the newest schema, check its keys, and have its jobs looked up at `now`."""
    engine = engines(f"sqlite:///{draft}")[0]
    try:
        with as_config_error():
            with engine.begin() as tx:
                schema.upgrade(tx)
                check_keys(tx, keys)
                resumed = None if now is None else restored.resume(tx, now)
            with engine.connect() as connection:
                backup.leave_one_file(driver_of(connection))
        return resumed
    finally:
        engine.dispose()


def _put(draft: Path, database: Path, keys: Path | None, aside: Path) -> bool:
    """Put a copy, and keys, in the place of a database; return whether one was kept aside."""
    own = key_file.path_for(database)
    real = database.resolve()
    replaced = [real, *logs_of(database)]
    try:
        with backup.draft_of(own) as draft_of_keys:
            for each in (draft, draft_of_keys):
                backup.give(each, database)
            if keys is not None:
                replaced.append(own)
                draft_of_keys.write_bytes(keys.read_bytes())
            kept = backup.put_aside(replaced, aside)
            if keys is not None:
                backup.put(draft_of_keys, own)
            backup.put(draft, real)
    except OSError as error:
        hint = f"the old files are in {aside}" if aside.exists() else "nothing was changed"
        raise Failure(f"{database}: {error.strerror}", hint=hint) from error
    return kept


def _say(
    terminal: Terminal, database: Path | str, aside: Path | None, resumed: Resumed | None
) -> None:
    looked_up, queried = resumed or (0, 0)
    document = {
        "database": str(database),
        "before": None if aside is None else str(aside),
        "looked_up": looked_up,
        "queried": queried,
    }
    terminal.record(document, document, key="database")
    if looked_up:
        terminal.notice(
            f"{counted(looked_up, 'queued job')} may have been submitted after the backup: vendors "
            "are asked before anything is sent"
        )
