"""`orchestrator`, with its statements and commits counted: `python -m orchestrator.bench.counted COUNTS serve ...`

The counts are two numbers in a file that is mapped into memory, so that reading them costs the service nothing. They
come from SQLAlchemy's own events; the product has no hook for this and needs none.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import threading
from pathlib import Path

import sqlalchemy as sa

_FORM = struct.Struct("qq")


class Counts:
    """The two numbers: statements (BEGIN and COMMIT are none) and commits."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), _FORM.size)
        self._lock = threading.Lock()

    @staticmethod
    def make(path: Path) -> Counts:
        """Begin at nothing."""
        path.write_bytes(bytes(_FORM.size))
        return Counts(path)

    def read(self) -> tuple[int, int]:
        """Return statements and commits so far."""
        statements, commits = _FORM.unpack_from(self._memory)
        return statements, commits

    def add(self, statements: int, commits: int) -> None:
        """Count more. PostgreSQL's writers are several threads."""
        with self._lock:
            before = self.read()
            _FORM.pack_into(self._memory, 0, before[0] + statements, before[1] + commits)

    def close(self) -> None:
        """Let the file go."""
        self._memory.close()
        self._file.close()


def count(counts: Counts, of: type[sa.Engine] | sa.Engine = sa.Engine) -> None:
    """Count what an engine, by default every one of this process, does from now on."""

    def stated(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if not statement.startswith("BEGIN"):
            counts.add(1, 0)

    def committed(_connection: object) -> None:
        counts.add(0, 1)

    sa.event.listen(of, "before_cursor_execute", stated)
    sa.event.listen(of, "commit", committed)


def main() -> None:
    """Run the program itself."""
    from orchestrator.cli.bench.child import follow

    follow()
    count(Counts(Path(sys.argv[1])))
    sys.argv = ["orchestrator", *sys.argv[2:]]
    runpy.run_module("orchestrator", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
