"""Which columns of a table are shown where."""

from __future__ import annotations

import sys

from rich.console import Console

from orchestrator.cli.terminal import Columns


def fitting(columns: Columns, narrow: Columns, wide: int) -> Columns:
    """Return all columns for a pipe or a terminal that has `wide` characters in a line, else the `narrow` ones."""
    return narrow if sys.stdout.isatty() and Console().width < wide else columns
