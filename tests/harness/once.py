"""What every test repeats and none is about, done once in a process.

* `share_statements`: engines share their compiled statements.
* `note_absent`: a module that is not installed is not looked for again.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from typing import Any

import sqlalchemy as sa


class _Statements(dict[Any, Any]):
    """Compiled statements by the type of their dialect: SQLAlchemy caches them for one engine."""

    def get(self, key: Any, default: Any = None) -> Any:
        dialect, *statement = key
        return super().get((type(dialect), *statement), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        dialect, *statement = key
        super().__setitem__((type(dialect), *statement), compiled)


def share_statements() -> None:
    """Let all engines that this process creates from now on share their compiled statements."""
    options = {"compiled_cache": _Statements()}
    sa.create_engine = partial(sa.create_engine, execution_options=options)


def note_absent(module: str) -> None:
    """Let imports of a module that is not installed fail at once: httpcore tries each request."""
    if importlib.util.find_spec(module) is None:
        sys.modules[module] = None  # type: ignore[assignment]
