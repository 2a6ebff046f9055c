"""The law of the house: who may import whom, who may touch the world, and who may look at a clock."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import orchestrator
from orchestrator.events.destinations import Destination
from orchestrator.vendors.contract import Vendor

ROOT = Path(orchestrator.__file__).parent

#: Floor by floor, and on each floor in order: a module imports only what stands before it. A package is one name; what
#: is inside it may import its neighbours. Exceptions: STAGES do not see each other, and PLUG_INS see floors 0 and 1
#: and the contract of their own package.
FLOORS = {
    "0 ground": "foundation.errors foundation.states foundation.clock foundation.timeouts foundation.ids foundation.json_codec foundation.untrusted foundation.token_bucket foundation.settings foundation.logs",
    "1 facts": "foundation.signing  vendors.order  vendors.field_mapping vendors.error_codes vendors.report vendors.kling_standard   "
    "schemas database.tables.columns database.tables.indexes database.tables database.bulk",
    "2 plug-ins, database, egress.http_client": "vendors.contract vendors.dialects vendors.registry events.destinations database.unit_of_work database.sqlite.engine database.schema database.migrations database.sqlite.writer database.postgres.connection database.postgres.engine database.postgres.notify "
    "database.backend database.store database.queue jobs.capacity egress.address_policy  egress.transport egress.http_client",
    "3 truth": "vendors.account_check foundation.admission events.log events.feed events.outbox jobs.transition jobs.push_health jobs.creation jobs.ledger engine.worker engine.deliver_schedule foundation.metrics engine.runtime "
    " engine.submit_outcome events.subscribers  engine.deliver_results database.index_scan database.listing jobs.timeline engine.retention engine.replay_selection",
    "4 stages": "engine.submit engine.receive engine.poll engine.deliver engine.replay",
    "5 doors": "api",
    "6 roof": "engine.lifecycle app",
    "7 outside": "client embed simulator  cli __main__",
}
PLUG_INS = {"vendors.dialects": Vendor, "events.destinations": Destination}
CONTRACTS = {"vendors.dialects": "vendors.contract", "events.destinations": "events.destinations"}
STAGES = FLOORS["4 stages"].split()
BELOW_PLUG_INS = (FLOORS["0 ground"] + " " + FLOORS["1 facts"]).split()
#: These run beside the product, not in it: they may sleep, draw and open sockets of their own.
OUTSIDE = FLOORS["7 outside"].split()
ORDER = [name for names in FLOORS.values() for name in names.split()]
PLACES = frozenset(ORDER)

#: The only modules that open sockets.
SOCKETS = {"egress.transport", "egress.address_policy"}
NETWORK = ("aiohttp", "socket", "http.client", "urllib.request", "requests", "urllib3", "ftplib", "smtplib")
CLIENTS = {
    "Client",
    "AsyncClient",
    "get",
    "post",
    "put",
    "delete",
    "request",
    "stream",
    "HTTPTransport",
    "AsyncHTTPTransport",
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def path_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def all_modules() -> list[str]:
    """Return every module below the package, `api` standing for `api/__init__`."""
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in sorted(ROOT.rglob("*.py"))]
    names = [".".join(one[:-1] if one[-1] == "__init__" else one) for one in parts]
    return [name for name in names if name]


def top(module: str) -> str:
    """Return the place of a module: the longest name of the law that it is, or is inside of."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if name in PLACES), parts[0])


def imported(module: str) -> Iterator[str]:
    """Yield what a module imports, dotted, wherever in it that happens: `orchestrator.` taken off, others whole."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> set[str]:
    """Return the modules of this package that a module imports."""
    names = {name.removeprefix("orchestrator.") for name in imported(module) if name.startswith("orchestrator.")}
    known = set(MODULES)
    return {name if name in known else name.rpartition(".")[0] for name in names} - {""}


def uses(module: str, of: str) -> set[str]:
    """Return the names a module takes from another one or from a class, under whatever name it imported that."""
    taken = {name.removeprefix(of + ".") for name in imported(module) if name.startswith(of + ".")}
    imports = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Import | ast.ImportFrom)]
    called = {alias.asname or alias.name for node in imports for alias in node.names if alias.name == of}
    return taken | {
        node.attr
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in called
    }


MODULES = all_modules()
INSIDE = [module for module in MODULES if top(module) not in OUTSIDE]


def test_every_module_has_its_place_and_every_place_its_module() -> None:
    folders = {".".join(module.split(".")[:n]) for module in MODULES for n in range(1, len(module.split(".")))}
    assert sorted({top(module) for module in MODULES if module not in folders - PLACES}) == sorted(ORDER)
    assert len(ORDER) == len(set(ORDER))


def test_a_module_imports_only_what_stands_before_it() -> None:
    pairs = [(module, name) for module in MODULES for name in ours(module) if top(name) != top(module)]
    pairs = [(module, name) for module, name in pairs if top(name) in PLACES and top(module) in PLACES]
    assert not [(module, name) for module, name in pairs if ORDER.index(top(name)) > ORDER.index(top(module))]


@pytest.mark.parametrize("stage", STAGES)
def test_stages_meet_only_in_committed_rows(stage: str) -> None:
    assert not {top(name) for name in ours(stage)} & (set(STAGES) - {stage})


@pytest.mark.parametrize("module", [module for module in MODULES if top(module) in PLUG_INS and module not in PLUG_INS])
def test_a_plug_in_sees_its_contract_and_the_two_lowest_floors(module: str) -> None:
    assert not {top(name) for name in ours(module)} - {top(module), CONTRACTS[top(module)], *BELOW_PLUG_INS}


@pytest.mark.parametrize("module", [module for module in MODULES if top(module) in PLUG_INS and module not in PLUG_INS])
def test_a_plug_in_is_one_class_in_one_file(module: str) -> None:
    loaded = importlib.import_module(f"orchestrator.{module}")
    mine = [one for _, one in inspect.getmembers(loaded, inspect.isclass) if one.__module__ == loaded.__name__]
    (found,) = [one for one in mine if issubclass(one, PLUG_INS[top(module)])]
    named = getattr(found, "name", None) or getattr(found, "kind", None)
    assert named == module.rpartition(".")[2], "it is called what its file is called"


def test_only_one_door_leads_out() -> None:
    dotted = tuple(f"{name}." for name in NETWORK)
    reaching = {module for module in INSIDE for name in imported(module) if f"{name}.".startswith(dotted)}
    assert reaching == SOCKETS
    assert not [module for module in INSIDE if uses(module, "httpx") & CLIENTS]


def test_no_traceback_is_left_to_somebody_elses_renderer() -> None:
    """`logs.traceback_of` says why."""
    written = {module: ast.unparse(tree(module)) for module in INSIDE}
    assert not [module for module, text in written.items() if "log.exception(" in text or "exc_info=" in text]


def test_time_and_chance_come_through_their_ports() -> None:
    """Only `clock` looks at the machine's; the roof picks the source of chance."""
    modules = [module for module in INSIDE if module != "foundation.clock"]
    assert not [module for module in modules if uses(module, "time") or "sleep" in uses(module, "asyncio")]
    assert {module: used for module in modules if (used := uses(module, "random"))} == {"app": {"SystemRandom"}}
    read = {"now", "utcnow", "today"}
    assert not [module for module in modules if (uses(module, "datetime") | uses(module, "date")) & read]


def test_the_law_would_notice() -> None:
    """The reading of imports itself is held to something."""
    assert {"database.store", "jobs.ledger", "jobs.transition"} <= ours("engine.runtime")
    assert "vendors.contract" in ours("vendors.dialects.kling")
    assert "sleep" in uses("foundation.clock", "asyncio")
    assert "now" in uses("foundation.clock", "datetime")
    assert {top(name) for name in imported("egress.transport")} >= {"aiohttp", "socket"}
