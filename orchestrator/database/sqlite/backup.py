"""Copies of a SQLite database, made beside the service, and put in the place of a database.

A copy is written to a draft, which its owner alone can read, and renamed when it is whole and on
the disk: so a file with its name is a complete one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator.database import schema
from orchestrator.database.sqlite.snapshot import driver_of, snapshot
from orchestrator.foundation.errors import ConfigError

#: Pages of a step; between two steps progress is shown, and Ctrl-C works.
_STEP = 4096

#: Is called with the pages that are left, and all of them.
Report = Callable[[int, int], object]


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Yield an empty file of mode 0600 next to `path`; it is deleted unless it is renamed."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def copy_to(file: Path, draft: Path, report: Report = lambda _left, _all: None) -> str:
    """Copy the present state of a database to `draft`, check the copy, and return its revision.

    A service may go on writing. Raises `ConfigError` for a file that is no database of ours, is
    damaged, or was made by a newer version.
    """
    with snapshot(file) as reading, contextlib.closing(sqlite3.connect(draft)) as copy:
        # All steps read the state of one transaction. Not VACUUM INTO: it renumbers the rows, and
        # the rowid of an event is its position in the log.
        driver_of(reading).backup(
            copy, pages=_STEP, progress=lambda _status, left, count: report(left, count)
        )
        leave_one_file(copy)
    return checked_revision(draft)


def leave_one_file(connection: sqlite3.Connection) -> None:
    """Leave no log beside a database, nor make one when the file is opened to be read."""
    connection.execute("PRAGMA journal_mode=DELETE").close()


def checked_revision(file: Path) -> str:
    """Return the revision of a database without a log: this version's, or an older one.

    Raises `ConfigError` if it is damaged, not ours, or newer.
    """
    with snapshot(file) as reading:
        found = driver_of(reading).execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise ConfigError(f"{file} is damaged: {found}")
        return schema.known(reading)


def give(draft: Path, owned: Path) -> None:
    """Give a draft the owner of a file that it replaces: an administrator may run the command."""
    if os.geteuid() == 0:
        owner = owned.stat()
        os.chown(draft, owner.st_uid, owner.st_gid)


def put(draft: Path, path: Path) -> None:
    """Rename a draft to `path`, for good."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_aside(paths: Iterable[Path], folder: Path) -> bool:
    """Move files to a new folder of mode 0700; False if there are none, or only empty ones.

    All are in the folder before the first leaves its place: a database without its log, or a log
    beside another database, would be damage.
    """
    kept = [path for path in paths if path.exists() and path.stat().st_size]
    if not kept:
        return False
    folder.mkdir(mode=0o700)
    for path in kept:
        os.link(path, folder / path.name)
    sync_folder(folder)
    for path in kept:
        path.unlink()
    sync_folder(folder.parent)
    return True
