"""The laws of the package: who may import whom, who opens sockets, and who reads the clock.

Five contracts. Each is checked against the real package, and against a violation made on purpose: a
law that nothing breaks is no law.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import orchestrator
from orchestrator.events.destinations import Destination
from orchestrator.vendors.contract import Vendor

ROOT = Path(orchestrator.__file__).parent

#: Law 1. Lowest first; a folder imports only from rows below its own, never from a neighbour in the
#: same row.
LAYERS = (
    ("foundation",),
    ("schemas", "database", "egress", "ingress"),
    ("vendors", "events"),
    ("jobs",),
    ("engine",),
    ("api", "dashboard"),
    ("app",),
    ("embed", "cli"),
)
#: Law 2. What runs outside the service: the client knows the API alone, the simulator knows nothing
#: of ours.
OUTSIDE: Mapping[str, tuple[str, ...]] = {"client": ("foundation", "schemas"), "simulator": ()}
MAY_USE_OUTSIDE = ("embed", "cli")
#: Law 3. A plug-in imports its contract and `foundation`, and is one class in one file.
PLUG_INS: Mapping[str, tuple[type, tuple[str, ...]]] = {
    "vendors.dialects": (
        Vendor,
        ("vendors", "vendors.contract", "vendors.order", "vendors.report", "vendors.field_mapping",
         "vendors.error_codes", "vendors.kling_standard"),
    ),
    "events.destinations": (
        Destination,
        ("events.destinations", "events.formats", "events.http_kinds", "events.notification"),
    ),
}  # fmt: skip
#: Law 4. Stages of the engine meet in committed rows; the modules of one stage share its first
#: word.
STAGES = ("receive", "submit", "poll", "deliver", "replay", "retention")
#: Law 5. Only these open sockets, and only this reads the clock, sleeps or draws; the application
#: picks the source.
SOCKETS = (
    "egress.transport",
    "egress.address_policy",
    "egress.resolver",
    "egress.failures",
    "egress.guarded_loop",
)
CLOCK = "foundation.clock"
NETWORK = (
    "aiohttp",
    "socket",
    "http.client",
    "urllib.request",
    "requests",
    "urllib3",
    "ftplib",
    "smtplib",
)
#: Libraries of brokers and mail servers: they open sockets on the guarded loop, where `open` of a
#: destination runs.
BROKERS = ("nats", "redis", "aiokafka", "aio_pika", "aiormq", "aiosmtplib", "apprise")
#: What connects by way of the running loop. A destination may, for its loop is guarded.
CONNECTING = {
    "open_connection",
    "open_unix_connection",
    "start_server",
    "create_connection",
    "create_unix_connection",
    "create_datagram_endpoint",
    "create_server",
    "sock_connect",
}
HTTPX = {
    "Client",
    "AsyncClient",
    "HTTPTransport",
    "AsyncHTTPTransport",
    "get",
    "post",
    "put",
    "delete",
    "request",
    "stream",
}
#: These run beside the service: they may sleep, draw, and open sockets of their own.
BESIDE = ("client", "simulator", "cli", "embed", "__main__")

Sources = Mapping[str, ast.Module]
Law = Callable[[Sources], Iterator[str]]


def paths() -> dict[str, Path]:
    """Return the file of every module by its dotted name without `orchestrator.`."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def sources() -> dict[str, ast.Module]:
    """Return every module, parsed. Takes a second, so not when tests are collected."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths().items()}


@cache
def nodes(tree: ast.Module) -> list[ast.Import | ast.ImportFrom | ast.Attribute]:
    """Return the imports and the attributes in a module: each law looks at these alone."""
    kinds = ast.Import | ast.ImportFrom | ast.Attribute
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


@cache
def imported(tree: ast.Module) -> list[str]:
    """Return what a module imports, dotted and absolute, wherever in the module that stands."""
    found = []
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names]
    return found


def ours(of: Sources, module: str) -> set[str]:
    """Return the modules of the package that `module` imports."""
    names = {
        name.removeprefix("orchestrator.")
        for name in imported(of[module])
        if name.startswith("orchestrator.")
    }
    found = {name if name in of else name.rpartition(".")[0] for name in names}
    return found - {"", module}


def used(tree: ast.Module, library: str) -> set[str]:
    """Return the names a module takes from `library`, imported from it or as its attributes."""
    taken = {
        name.removeprefix(f"{library}.")
        for name in imported(tree)
        if name.startswith(f"{library}.")
    }
    aliases = {
        alias.asname or alias.name
        for node in nodes(tree)
        if not isinstance(node, ast.Attribute)
        for alias in node.names
        if alias.name == library
    }
    return taken | {
        node.attr
        for node in nodes(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in aliases
    }


def top(module: str) -> str:
    return module.partition(".")[0]


def layers(of: Sources) -> Iterator[str]:
    """1. Imports point downwards."""
    rank = {folder: row for row, folders in enumerate(LAYERS) for folder in folders}
    known = {*rank, *OUTSIDE, "", "__main__"}
    yield from (f"{module} is in no layer" for module in of if top(module) not in known)
    for module in of:
        for name in ours(of, module):
            a, b = top(module), top(name)
            if a != b and a in rank and b in rank and rank[b] >= rank[a]:
                yield f"{module} imports {name}, which is not below it"
            if b in OUTSIDE and a != b and a not in MAY_USE_OUTSIDE:
                yield f"{module} imports {name}, which runs outside the service"


def outside(of: Sources) -> Iterator[str]:
    """2. The client imports `foundation` and `schemas`; the simulator imports nothing of ours."""
    for module in of:
        for name in ours(of, module) if top(module) in OUTSIDE else ():
            if top(name) not in (top(module), *OUTSIDE[top(module)]):
                yield f"{module} imports {name}"


def plug_ins(of: Sources) -> Iterator[str]:
    """3. A dialect and a destination import their contract and `foundation`."""
    for folder, (_, contract) in PLUG_INS.items():
        for module in of:
            for name in ours(of, module) if module.startswith(f"{folder}.") else ():
                if top(name) != "foundation" and name not in contract:
                    yield f"{module} imports {name}"


def stages(of: Sources) -> Iterator[str]:
    """4. In `engine`, one stage does not import another."""
    for module in of:
        folder, _, name = module.partition(".")
        stage = name.partition("_")[0]
        for other in ours(of, module) if folder == "engine" and stage in STAGES else ():
            found = other.removeprefix("engine.").partition("_")[0]
            if other.startswith("engine.") and found in STAGES and found != stage:
                yield f"{module} imports {other}"


def of_libraries(tree: ast.Module, libraries: tuple[str, ...]) -> set[str]:
    """Return what a module imports of these libraries."""
    tops = tuple(f"{one}." for one in libraries)
    return {name for name in imported(tree) if f"{name}.".startswith(tops)}


def world(of: Sources) -> Iterator[str]:
    """5. Sockets only in `egress`; time, sleep and chance only through `foundation.clock`."""
    of_destinations = {name for name in of if name.startswith("events.destinations.")}
    for module, tree in of.items():
        if top(module) in BESIDE:
            continue
        if (of_libraries(tree, NETWORK) and module not in SOCKETS) or used(tree, "httpx") & HTTPX:
            yield f"{module} opens sockets"
        connecting = {node.attr for node in nodes(tree) if isinstance(node, ast.Attribute)}
        connecting &= set() if module == "egress.guarded_loop" else CONNECTING
        if (connecting or of_libraries(tree, BROKERS)) and module not in of_destinations:
            yield f"{module} opens sockets beside the guarded loop"
        if module == CLOCK:
            continue
        read = (used(tree, "datetime") | used(tree, "date")) & {"now", "utcnow", "today"}
        if used(tree, "time") or "sleep" in used(tree, "asyncio") or read:
            yield f"{module} reads the clock or sleeps"
        if used(tree, "random") - ({"SystemRandom"} if module == "app" else set()):
            yield f"{module} draws at random"


LAWS = (layers, outside, plug_ins, stages, world)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_package_keeps_the_law(law: Law) -> None:
    assert not list(law(sources()))


@pytest.mark.parametrize(
    ("law", "module", "violation"),
    [
        (layers, "foundation.ids", "from orchestrator.jobs.ledger import Ledger"),
        (layers, "schemas.jobs", "from orchestrator.database import store"),
        (layers, "ingress.protocol", "from orchestrator.egress import transport"),
        (layers, "engine.submit", "def late() -> None:\n    from orchestrator.api import endpoint"),
        (layers, "jobs.ledger", "from orchestrator.client import Client"),
        (layers, "helpers", "x = 1"),
        (outside, "client.jobs", "from orchestrator.engine.runtime import Runtime"),
        (outside, "simulator.vendors", "from orchestrator.foundation.errors import Refused"),
        (plug_ins, "vendors.dialects.kling", "from orchestrator.egress import http_client"),
        (plug_ins, "events.destinations.slack", "from orchestrator.database.store import Tx"),
        (stages, "engine.receive", "from orchestrator.engine import deliver_results"),
        (stages, "engine.submit_outcome", "from orchestrator.engine.poll import LEASE"),
        (world, "vendors.dialects.kling", "import socket"),
        (world, "engine.deliver", "import httpx\nclient = httpx.AsyncClient()"),
        (world, "engine.deliver_publishers", "from nats.aio.client import Client"),
        (world, "engine.deliver", "import asyncio\nx = asyncio.open_connection"),
        (world, "egress.broker_loop", "import socket"),
        (world, "jobs.ledger", "from datetime import datetime\nnow = datetime.now()"),
        (world, "engine.poll", "import asyncio as aio\nx = aio.sleep"),
        (world, "engine.poll", "import random\nx = random.random()"),
    ],
)  # fmt: skip
def test_the_law_bites(law: Law, module: str, violation: str) -> None:
    assert list(law({**sources(), module: ast.parse(violation)}))


@pytest.mark.parametrize(
    "module", [name for name in paths() if name.rpartition(".")[0] in PLUG_INS]
)
def test_a_plug_in_is_one_class_in_one_file(module: str) -> None:
    kind, _ = PLUG_INS[module.rpartition(".")[0]]
    loaded = importlib.import_module(f"orchestrator.{module}")
    defined = [
        found
        for _, found in inspect.getmembers(loaded, inspect.isclass)
        if found.__module__ == loaded.__name__
    ]
    (found,) = [one for one in defined if issubclass(one, kind)]
    named = getattr(found, "name", None) or getattr(found, "kind", None)
    assert named == module.rpartition(".")[2], "it is called what its file is called"


def test_imports_are_absolute() -> None:
    assert not [
        name
        for name, tree in sources().items()
        for found in imported(tree)
        if found.startswith(".")
    ]


def test_no_traceback_is_left_to_somebody_elses_renderer() -> None:
    """`logs.traceback_of` says why."""
    written = {
        name: path.read_text(encoding="utf-8")
        for name, path in paths().items()
        if top(name) not in BESIDE
    }
    assert not [
        module
        for module, text in written.items()
        if "log.exception(" in text or "exc_info=" in text
    ]
