"""The files of an open SQLite database, and whether they are still the ones at their paths.

SQLite goes on writing to a file that was deleted, moved or replaced, and no later process finds
what it wrote: https://sqlite.org/howtocorrupt.html#_unlinking_or_renaming_a_database_file_while_in_use
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from orchestrator.foundation.errors import Unavailable

#: What anyone may read of it: without the path.
_LOST = (
    "the database file, its log or its lock was deleted, moved, replaced, emptied or made "
    "read-only; put it back, or restart the service"
)


class _Identity(NamedTuple):
    """What stays the same while a file is open."""

    device: int
    inode: int
    writable: bool
    empty: bool

    @classmethod
    def of(cls, path: str) -> _Identity:
        found = os.stat(path)
        # A checkpoint may empty the log.
        empty = not found.st_size and not path.endswith("-wal")
        return cls(found.st_dev, found.st_ino, bool(found.st_mode & 0o222), empty)


def logs_of(database: Path) -> list[Path]:
    """Return the paths that SQLite uses beside a database: its logs, and the index of one.

    They have the name of the file that a symbolic link leads to.
    """
    real = os.path.realpath(database)
    return [Path(f"{real}-{kind}") for kind in ("wal", "shm", "journal")]


def lock_of(database: Path) -> Path:
    """Return the path of the lock of the process."""
    return database.with_name(database.name + ".lock")


class OpenFiles:
    """The database, its write-ahead log, the index of the log, and the lock of the process."""

    def __init__(self, path: Path) -> None:
        wal, index, _ = map(str, logs_of(path))
        self._paths = (str(path), wal, index, str(lock_of(path)))
        self._known: dict[str, _Identity] = {}

    def remember(self) -> None:
        """Note the files that are open. Call it after the first transaction, which makes them."""
        self._known = {path: _Identity.of(path) for path in self._paths if os.path.exists(path)}

    def check(self) -> None:
        """Raise `Unavailable` unless each of them is at its path, the same and writable."""
        for path, known in self._known.items():
            try:
                found = _Identity.of(path)
            except OSError as error:
                raise _lost(path, error.strerror or "gone") from error
            if found != known:
                changed = "made read-only or empty" if found[:2] == known[:2] else "another file"
                raise _lost(path, changed)


def _lost(path: str, what: str) -> Unavailable:
    words = f"{path}: {what}; put it back, or restart the service to open what is there"
    return Unavailable(words, detail=_LOST)
