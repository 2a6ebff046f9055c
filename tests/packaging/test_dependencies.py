"""Every library that the package imports is declared, and a plain install needs few of them."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator import cli
from orchestrator.events import destinations
from orchestrator.foundation import extras

ROOT = Path(__file__).parents[2]
PROJECT: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: What a plain install runs: the client, and the commands for a remote server.
PLAIN = (
    "client",
    "schemas",
    "foundation.settings",
    "__main__",
    "cli.access",
    "cli.client",
    *(f"cli.{module}" for modules in cli._MODULES.values() for module in modules),
)
#: Not imported by the package but by a library: uvicorn takes the first by name, starlette reads
#: forms with the second.
BY_NAME = {"uvloop", "python-multipart"}
#: Released together with the library that brings it, which requires one exact version of it.
PART_OF = {"pydantic-core": "pydantic"}
POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def declared(extra: str = "") -> set[str]:
    """Return the distributions of a plain install, or those that an extra adds."""
    words = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found = set()
    for requirement in map(Requirement, words):
        if requirement.name == "orchestrator":
            found |= set().union(*map(declared, requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return found


@cache
def installed() -> Mapping[str, list[str]]:
    """Return the distributions of each importable name. Takes a second, so only once."""
    return packages_distributions()


@cache
def sources() -> dict[str, ast.Module]:
    """Return every module of the package by its dotted name without `orchestrator.`."""
    folder = ROOT / "orchestrator"
    found = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield what import statements name, dotted."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_start(tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports when it is imported itself."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        yield from names([node])
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.If | ast.Try | ast.With):
            todo += ast.iter_child_nodes(node)


def ours(name: str) -> Iterator[str]:
    """Yield the modules of the package that are imported with a dotted name, packages first."""
    parts = name.removeprefix("orchestrator").removeprefix(".").split(".")
    for end in range(len(parts) + 1):
        if (module := ".".join(parts[:end])) in sources():
            yield module


def closure(roots: Iterable[str]) -> set[str]:
    """Return the modules that are imported with these modules."""
    seen: set[str] = set()
    todo = [module for root in roots for module in ours(root)]
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            imported = (name for name in at_start(sources()[module]))
            todo += [
                m for name in imported if f"{name}.".startswith("orchestrator.") for m in ours(name)
            ]
    return seen


def distributions(imported: Iterable[str]) -> set[str]:
    """Return the distributions of the libraries among dotted names."""
    tops = {name.partition(".")[0] for name in imported}
    # `_typeshed` exists for type checkers alone.
    libraries = tops - sys.stdlib_module_names - {"orchestrator", "_typeshed"}
    found = {canonicalize_name(installed()[library][0]) for library in libraries}
    return {PART_OF.get(name, name) for name in found}


def everything(module: str) -> set[str]:
    """Return the distributions that a module imports anywhere."""
    return distributions(names(ast.walk(sources()[module])))


def test_a_plain_install_imports_what_it_declares() -> None:
    for module in closure(PLAIN):
        assert distributions(at_start(sources()[module])) <= declared(), module


def test_a_plain_install_imports_on_windows() -> None:
    for module in closure(PLAIN):
        assert not {name.partition(".")[0] for name in at_start(sources()[module])} & POSIX, module


@pytest.mark.parametrize("folder", ["client", "schemas"])
def test_the_client_never_imports_more_than_a_plain_install_has(folder: str) -> None:
    for module in (name for name in sources() if f"{name}.".startswith(f"{folder}.")):
        assert everything(module) <= declared(), module


def test_the_service_imports_what_it_declares() -> None:
    server = declared() | declared("server")
    for module in sources():
        allowed = set(server)
        if module.startswith("database.postgres"):
            allowed |= declared("postgres")
        if module.startswith(("simulator", "cli.demo", "cli.bench")):
            allowed |= declared("demo")
        if (extra := extra_of(module)) is not None:
            assert distributions(at_start(sources()[module])) <= server, module
            allowed |= declared(extra)
        assert everything(module) <= allowed, module


def extra_of(module: str) -> str | None:
    """Return the extra of a kind of subscriber, which imports its library when it connects."""
    folder, _, kind = module.rpartition(".")
    if folder != "events.destinations":
        return None
    return destinations.load()[kind].extra or None


def test_no_library_is_declared_in_vain() -> None:
    used = set().union(*map(everything, sources())) | BY_NAME
    assert declared().union(*map(declared, PROJECT["optional-dependencies"])) <= used


def test_the_error_for_a_missing_extra_knows_every_library_of_it() -> None:
    for extra, libraries in extras.EXTRAS.items():
        found = distributions(set(libraries) - POSIX)
        assert found == declared(extra) - declared(), extra


@cache
def lock() -> Mapping[str, Any]:
    """Return the packages of `uv.lock` by name. Parsing it takes a while, so only on demand."""
    found = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return {package["name"]: package for package in found}


def locked(name: str) -> set[str]:
    """Return what `uv.lock` installs with a distribution, on any system."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        for found in lock()[todo.pop()].get("dependencies", []):
            if found["name"] not in seen:
                seen.add(found["name"])
                todo.append(found["name"])
    return seen


def test_a_plain_install_leaves_an_application_its_own_versions() -> None:
    """SQLAlchemy 2.0, for example: what is not required is not constrained."""
    assert not locked("orchestrator") & (declared("demo") - declared())
    assert "sqlalchemy" not in locked("orchestrator")


def test_windows_is_told_that_the_service_needs_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_fcntl(name: str) -> object:
        return None if name == "fcntl" else find_spec(name)

    monkeypatch.setattr(extras, "find_spec", without_fcntl)
    with pytest.raises(extras.MissingExtra, match="POSIX"):
        extras.require("server")
    assert "POSIX" in str(extras.missing("uvicorn"))
    assert extras.missing("pydantic") is None


def test_what_is_missing_is_stated_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_starlette(name: str) -> object:
        return None if name == "starlette" else find_spec(name)

    monkeypatch.setattr(extras, "find_spec", without_starlette)
    with pytest.raises(ImportError, match=r"starlette .* pip install 'orchestrator\[demo\]'"):
        extras.require("demo")
