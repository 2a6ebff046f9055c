"""Caches downloads and builds inside the virtual environment, where `make clean` removes them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_CACHE = Path(sys.prefix) / ".third_party"


def cached(name: str, sources: Sequence[Path], fill: Callable[[Path], None]) -> Path:
    """Return a folder that `fill` fills from copies of `sources`, cached by their contents.

    A file lock admits one process at a time, and the folder appears only when complete.
    """
    contents = b"".join(source.read_bytes() for source in sources)
    folder = _CACHE / f"{name}-{hashlib.sha256(contents).hexdigest()[:16]}"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = _CACHE / f"{name}-half"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for source in sources:
                shutil.copy(source, partial)
            fill(partial)
            partial.rename(folder)
    return folder
