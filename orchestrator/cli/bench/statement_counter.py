"""`orchestrator` with its SQL statements and commits counted.

`python -m orchestrator.cli.bench.statement_counter COUNTS serve ...` counts into a memory-mapped
file, so that a reading costs the service nothing. The counts come from SQLAlchemy's events; the
product has no hook for this.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import threading
from pathlib import Path

import sqlalchemy as sa

from orchestrator.cli.bench.raw_http import end_with_bench

_FORMAT = struct.Struct("qq")


class StatementCounter:
    """Two numbers in a file: statements (without BEGIN and COMMIT) and commits."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_FORMAT.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FORMAT.size)
        # PostgreSQL has several writer threads.
        self._lock = threading.Lock()

    def read(self) -> tuple[int, int]:
        """Return statements and commits so far."""
        statements, commits = _FORMAT.unpack_from(self._memory)
        return statements, commits

    def count(self, engine: type[sa.Engine] | sa.Engine = sa.Engine) -> None:
        """Count statements and commits of an engine; by default of every engine of the process."""

        def executing(_connection: object, _cursor: object, sql: str, *_more: object) -> None:
            if not sql.startswith("BEGIN"):
                self._add(1, 0)

        sa.event.listen(engine, "before_cursor_execute", executing)
        sa.event.listen(engine, "commit", lambda _connection: self._add(0, 1))

    def _add(self, statements: int, commits: int) -> None:
        with self._lock:
            before = self.read()
            _FORMAT.pack_into(self._memory, 0, before[0] + statements, before[1] + commits)

    def close(self) -> None:
        """Unmap the file."""
        self._memory.close()


def main() -> None:
    """Run `orchestrator` with the remaining arguments."""
    end_with_bench()
    StatementCounter(Path(sys.argv[1])).count()
    sys.argv = ["orchestrator", *sys.argv[2:]]
    runpy.run_module("orchestrator", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
