"""The key file of a SQLite database, made on first use: a key to a line, newest first."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from orchestrator.foundation.errors import ConfigError


def path_for(database: Path) -> Path:
    """Return the key file of a database file."""
    return database.with_name(database.name + ".keys")


def read(path: Path) -> list[str]:
    """Return the keys, newest first.

    Raises `ConfigError` for an empty file, `FileNotFoundError` if there is none.
    """
    keys = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not keys:
        raise ConfigError(f"{path} holds no key; restore it from a backup, or set secret_keys")
    return keys


def read_or_create(path: Path) -> list[str]:
    """Return the keys in `path`; make one if there is no such file. Raises `ConfigError`."""
    try:
        if not path.exists():
            _create(path, secrets.token_urlsafe(48))
        return read(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; make its folder writable, or set secret_keys"
        ) from error


def check(path: Path) -> None:
    """Raise `ConfigError` if `read_or_create` would. Nothing is made."""
    try:
        if path.exists():
            read(path)
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            raise ConfigError(
                f"{path}: {path.parent} cannot be written; allow it, or set secret_keys"
            )
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; make it readable, or set secret_keys"
        ) from error


def _create(path: Path, key: str) -> None:
    """Write the whole file or nothing: the draft is linked to `path` only when it is complete."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        # Another process was first; its key is used.
        return
    finally:
        draft.unlink()
