"""What is public is declared, complete, and enough for everything that the documentation shows."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from tests.harness.documents import ROOT, blocks

PUBLIC = tuple(
    re.findall(r"`(orchestrator\.[\w.]+)`", (orchestrator.__doc__ or "").partition("Public are")[2])
)


def exported(module: str) -> list[str]:
    names: list[str] = importlib.import_module(module).__all__
    return names


def defined(module: str) -> Iterator[str]:
    """Yield the classes and functions that the file of a module defines itself."""
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def shown() -> Iterator[tuple[str, str, str]]:
    """Yield where the documentation imports what from which of our modules."""
    codes = [(str(block), block.code) for block in blocks() if block.language == "python"]
    examples = (ROOT / "docs" / "examples").glob("*.py")
    codes += [(path.name, path.read_text(encoding="utf-8")) for path in examples]
    for where, code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("orchestrator."):
                yield from ((where, str(node.module), alias.name) for alias in node.names)


def test_six_modules_are_public() -> None:
    assert len(PUBLIC) == 6


@pytest.mark.parametrize("module", ["orchestrator", *PUBLIC])
def test_a_public_module_exports_all_that_it_defines_and_nothing_that_does_not_exist(
    module: str,
) -> None:
    loaded = importlib.import_module(module)
    assert len(exported(module)) == len(set(exported(module)))
    assert not [name for name in exported(module) if not hasattr(loaded, name)]
    own = {name for name in defined(module) if not name.startswith("_")}
    assert own <= set(exported(module))


def test_the_documentation_imports_public_names_alone() -> None:
    for where, module, name in shown():
        assert module in ("orchestrator", *PUBLIC), f"{where}: {module} is private"
        assert name in exported(module), f"{where}: {module}.{name} is private"


def test_the_map_names_every_folder_of_the_package() -> None:
    package = Path(orchestrator.__file__).parent
    folders = {path.parent.name for path in package.glob("*/__init__.py")} | {"app"}
    drawn = re.findall(r"^    (\w+(?:, \w+)*)  ", orchestrator.__doc__ or "", re.MULTILINE)
    assert {name for names in drawn for name in names.split(", ")} == folders
