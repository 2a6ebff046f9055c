"""Where `listen` was in the log, and the secret it signs with: kept on this machine, whatever ends the process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

from orchestrator.cli.failure import Exit, Failure
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.ids import is_id
from orchestrator.foundation.signing.standard_webhooks import key_bytes, new_secret


def state_folder() -> Path:
    """Return this person's folder for what programs remember: XDG_STATE_HOME, or what the platform has for it."""
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "orchestrator"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "orchestrator"
    return Path.home() / ".local" / "state" / "orchestrator"


class Bookmark:
    """One place in one log: of a server, as a key sees it, for one consumer. One process at a time may hold it."""

    def __init__(self, server: str, key: str, consumer: str) -> None:
        which = json.dumps([server, key, consumer]).encode()
        folder = state_folder() / "listen"
        name = hashlib.sha256(which).hexdigest()[:20]
        self._cursor = folder / f"{name}.cursor"
        self._secret = folder / f"{name}.secret"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._secret.exists():
                _create(self._secret, new_secret())
            self._held = os.open(self._secret, os.O_RDONLY)
        except OSError as error:
            raise Failure(
                f"{folder}: {error.strerror}", hint="XDG_STATE_HOME names another folder"
            ) from error

    def hold(self) -> None:
        """Keep other processes out until this one ends. Raises `Failure` if one is in."""
        try:
            _lock(self._held)
        except OSError as error:
            raise Failure(
                "another `orchestrator listen` goes on from here: same server, key and --forward-to",
                hint="end that one first; two would each tell the consumer everything",
                code=Exit.CONFLICT,
            ) from error

    def close(self) -> None:
        """Let go of it."""
        os.close(self._held)

    def secret(self) -> str:
        """Return the secret that signs for this consumer: the same one whenever the process ends and begins again.

        Raises `Failure` if what is kept is none.
        """
        said = self._secret.read_text(encoding="ascii", errors="replace").strip()
        try:
            key_bytes(said)
        except ConfigError as error:
            raise Failure(
                f"{self._secret} holds no secret", hint="remove it, and a new one is made"
            ) from error
        return said

    def read(self) -> str | None:
        """Return the last event that was handled; None if there is none yet.

        Raises `Failure` if it cannot be read: beginning anew would leave events out without a word.
        """
        try:
            said = self._cursor.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"{self._cursor}: {error.strerror}") from error
        if not is_id(said, "evt"):
            hint = "--since 1h or --from EVT says where to begin"
            raise Failure(f"{self._cursor} holds no event's id", hint=hint)
        return said

    def keep(self, event_id: str) -> None:
        """Remember the last event that was handled: the whole id or the one before, whenever the process is killed."""
        if not is_id(event_id, "evt"):
            raise Failure(
                "the server named an event with what is no id", hint="is this the right --server?"
            )
        draft = self._cursor.with_suffix(".next")
        try:
            draft.write_text(event_id + "\n", encoding="ascii")
            draft.replace(self._cursor)
        except OSError as error:
            hint = "what was handled is not remembered any more; stopping"
            raise Failure(f"{self._cursor}: {error.strerror}", hint=hint) from error


def _lock(descriptor: int) -> None:
    """Lock a file for this process; the system drops the lock with the process. Raises `OSError`."""
    if sys.platform == "win32":
        import msvcrt

        # Windows refuses to read a locked range, so the locked byte is past the end of the file.
        os.lseek(descriptor, 2**20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _create(path: Path, secret: str) -> None:
    """Write a complete file or none, for its owner's eyes only. Who comes second finds the first one's."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, secret.encode() + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(descriptor)
        draft.unlink()
