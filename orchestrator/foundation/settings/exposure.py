"""Files with secrets that others than their owner can read."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from orchestrator.foundation.masking import without_password


@dataclass(frozen=True, slots=True)
class Exposed:
    """A file with secrets, and its mode, which allows its group or others something."""

    path: Path
    mode: int

    @property
    def problem(self) -> str:
        """What is wrong with it."""
        mode = f"{self.mode:o}"
        return f"{self.path} has secrets, and others than its owner can read it (mode {mode})"

    @property
    def fix(self) -> str:
        """The command that ends it."""
        return f"chmod 600 {self.path}"


def exposed(path: Path) -> Exposed | None:
    """Return a file to which its group or others have access; None for a private or absent one."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    return Exposed(path, mode) if mode & 0o077 else None


def secret_names(tree: Mapping[str, object], prefix: str = "") -> set[str]:
    """Return the dotted names of settings that contain a secret or a URL's password."""
    found: set[str] = set()
    for name, value in tree.items():
        items = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            found |= secret_names(value, f"{prefix}{name}.")
        elif any(map(_is_secret, items)):
            found.add(prefix + name)
    return found


def _is_secret(value: object) -> bool:
    match value:
        case SecretStr():
            return bool(value.get_secret_value())
        case str():
            return without_password(value) != value
        case _:
            return False
