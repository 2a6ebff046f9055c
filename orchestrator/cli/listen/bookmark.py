"""The place of `listen` in the log and its signing secret, kept on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

from orchestrator.cli.access import Access
from orchestrator.cli.failure import Exit, Failure
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.ids import is_id
from orchestrator.foundation.signing.standard_webhooks import key_bytes, new_secret


def state_folder() -> Path:
    """Return the user's state folder: XDG_STATE_HOME, or the platform's."""
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "orchestrator"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "orchestrator"
    return Path.home() / ".local" / "state" / "orchestrator"


class Bookmark:
    """The place in one server's log, for one key and one consumer. One process may lock it."""

    def __init__(self, access: Access, consumer: str) -> None:
        identity = json.dumps([access.server, access.who, consumer]).encode()
        folder = state_folder() / "listen"
        name = hashlib.sha256(identity).hexdigest()[:20]
        self._cursor = folder / f"{name}.cursor"
        self._secret = folder / f"{name}.secret"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._secret.exists():
                _create(self._secret, new_secret())
            self._descriptor = os.open(self._secret, os.O_RDONLY)
        except OSError as error:
            raise Failure(
                f"{folder}: {error.strerror}", hint="XDG_STATE_HOME names another folder"
            ) from error

    def lock(self) -> None:
        """Lock it until this process ends. Raises `Failure` if another process has."""
        try:
            _lock(self._descriptor)
        except OSError as error:
            raise Failure(
                "another `orchestrator listen` runs with the same server, key and --forward-to",
                hint="end that one first; two would each send every event to the consumer",
                code=Exit.CONFLICT,
            ) from error

    def close(self) -> None:
        """Release it."""
        os.close(self._descriptor)

    def secret(self) -> str:
        """Return the signing secret, the same on every run. Raises `Failure` if it is malformed."""
        secret = self._secret.read_text(encoding="ascii", errors="replace").strip()
        try:
            key_bytes(secret)
        except ConfigError as error:
            raise Failure(
                f"{self._secret} holds no secret", hint="remove it, and a new one is made"
            ) from error
        return secret

    def read(self) -> str | None:
        """Return the last handled event's id; None before the first.

        Raises `Failure` if it cannot be read: a new start would skip events silently.
        """
        try:
            cursor = self._cursor.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"{self._cursor}: {error.strerror}") from error
        if not is_id(cursor, "evt"):
            hint = "--since 1h or --from EVT sets where to begin"
            raise Failure(f"{self._cursor} holds no event's id", hint=hint)
        return cursor

    def keep(self, event_id: str) -> None:
        """Store the last handled event's id, atomically: a kill leaves this one or the last."""
        if not is_id(event_id, "evt"):
            raise Failure(
                "the server sent an event without a valid id", hint="is this the right --server?"
            )
        draft = self._cursor.with_suffix(".next")
        try:
            draft.write_text(event_id + "\n", encoding="ascii")
            draft.replace(self._cursor)
        except OSError as error:
            hint = "the place in the log can no longer be stored; stopping"
            raise Failure(f"{self._cursor}: {error.strerror}", hint=hint) from error


def _lock(descriptor: int) -> None:
    """Lock a file until this process ends. Raises `OSError` if another process has."""
    if sys.platform == "win32":
        import msvcrt

        # Windows refuses to read a locked range, so the locked byte is past the end of the file.
        os.lseek(descriptor, 2**20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _create(path: Path, secret: str) -> None:
    """Write a private file, completely or not at all. A concurrent second call keeps the first."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, secret.encode() + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(descriptor)
        draft.unlink()
