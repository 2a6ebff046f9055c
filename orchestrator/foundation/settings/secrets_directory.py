"""The secrets directory: one file per setting. Container platforms and systemd make such folders.

Others keep their secrets there too: a file is opened only if its name is that of a setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.foundation.errors import ConfigError

#: Bytes of a secret, at most.
_CAP = 1 << 20


def read(directory: Path, is_ours: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield name and content of each file whose name is ours, in the order of their names.

    Raises `ConfigError` that names the file, or the directory if it cannot be listed.
    """
    try:
        paths = sorted(directory.iterdir())
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}; make it readable") from error
    for path in paths:
        if is_ours(path.name):
            yield path.name, _text(path)


def _text(path: Path) -> str:
    try:
        # A pipe or a device would be waited for.
        if not path.is_file():
            raise ConfigError(f"{path}: not a file; a secret is a file with its value")
        with path.open("rb") as file:
            content = file.read(_CAP + 1)
        if len(content) > _CAP:
            raise ConfigError(f"{path}: over {_CAP >> 20} MiB; a secret is a file with its value")
        return content.decode().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; make it readable, or remove it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text (at byte {error.start}); write the value as text"
        ) from error
