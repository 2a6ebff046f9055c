"""What every test repeats and none is about, done once in a process: two thirds of a short test.

* `share_statements`: engines share their compiled statements.
* `trust_one_authority`: a TLS context loads one certificate, instead of a hundred.
* `note_absent`: a module that is not installed is not looked for again.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import certifi
import sqlalchemy as sa

_END = "-----END CERTIFICATE-----\n"


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


def trust_one_authority() -> None:
    """Let this process and its children trust one authority: to load all of them takes 35 ms."""
    bundle = Path(certifi.where()).read_text(encoding="utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(bundle.partition(_END)[0] + _END)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    os.environ["SSL_CERT_FILE"] = file.name


def note_absent(module: str) -> None:
    """Let imports of a module that is not installed fail at once: httpcore tries each request."""
    if importlib.util.find_spec(module) is None:
        sys.modules[module] = None  # type: ignore[assignment]
