"""The tree of errors, as its module draws it."""

from __future__ import annotations

import re

from orchestrator.foundation import errors
from orchestrator.foundation.errors import OrchestratorError


def drawn() -> list[tuple[int, str]]:
    """Return the depth and name of every line of the drawing."""
    lines = re.findall(
        r"^((?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)(?: {2}|$)", errors.__doc__ or "", re.M
    )
    return [(len(indent) // 4, name) for indent, name in lines]


def declared(kind: type[OrchestratorError], depth: int = 0) -> list[tuple[int, str]]:
    """Return depth and name of an error and of all below it, in the order of the module."""
    below = [below for below in kind.__subclasses__() if below.__module__ == errors.__name__]
    return [
        (depth, kind.__name__),
        *(entry for kind in below for entry in declared(kind, depth + 1)),
    ]


def test_the_drawing_shows_every_error_below_its_base_in_the_order_of_the_module() -> None:
    assert drawn() == declared(OrchestratorError)
