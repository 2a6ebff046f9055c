"""What is fetched or built once, and kept beside the virtual environment's own: `make clean` removes it too."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
_CACHE = Path(sys.prefix) / ".strangers"


def kept(name: str, files: tuple[str, ...], fill: Callable[[Path], None]) -> Path:
    """Return a folder that `fill` has filled, from copies of these files, for as long as they stay as they are.

    It is there only when it is whole, and one process at a time sees to that.
    """
    said = b"".join((HERE / one).read_bytes() for one in files)
    folder = _CACHE / f"{name}-{hashlib.sha256(said).hexdigest()[:16]}"
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not folder.exists():
            half = _CACHE / f"{name}-half"
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            for one in files:
                shutil.copy(HERE / one, half)
            fill(half)
            half.rename(folder)
    return folder
