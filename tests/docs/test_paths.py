"""Every file, folder and module that the documentation names exists."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.harness.documents import PAGES, ROOT, Page

#: A path of the checkout, wherever it stands on a page. `(new)` after it: the reader creates it.
_PATH = re.compile(
    r"(?<![\w/.:-])((?:orchestrator|tests|docs|deploy)/[a-z_][\w./-]*\w/?)(`? \(new\))?"
)
_MODULE = re.compile(r"(?<![\w/.@:-])(orchestrator(?:\.[a-z_]+)+)\b(?!/)")
#: Names that begin like a module and are none: files, a database, entry points.
_FILES = ("toml", "db", "service", "json")
EACH_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def missing(text: str) -> list[str]:
    """Return the paths and modules in a text that do not exist."""
    paths = [
        found[1]
        for found in _PATH.finditer(text)
        if not found[2] and not (ROOT / found[1]).exists()
    ]
    modules = [
        name
        for name in _MODULE.findall(text)
        if name.split(".")[1] not in _FILES and not _exists(name)
    ]
    return paths + modules


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@EACH_PAGE
def test_every_path_and_module_on_a_page_exists(path: Path) -> None:
    assert not missing(Page(path).text)


def test_a_path_that_does_not_exist_is_found() -> None:
    text = "`orchestrator/ledger.py`, `orchestrator/jobs/ledger.py`, `orchestrator.journal`"
    assert missing(text) == ["orchestrator/ledger.py", "orchestrator.journal"]
    assert not missing("`tests/samples/acme/` (new)")
