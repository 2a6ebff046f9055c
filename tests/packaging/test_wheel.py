"""The wheel, built and installed: in an environment without the service, and with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import __version__

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
#: Commands of the service, which a plain install names but cannot run.
SERVICE = (
    "serve",
    "migrate",
    "demo",
    "bench ingest",
    "doctor",
    "config check",
    "keys create",
    "keys ls",
    "secrets callback",
)
HELP = ("", "jobs ls", "submit", "listen", "events ls", "keys create", "bench ingest", "doctor")
#: Runs in the plain environment: each command in turn, in one process.
RUN_ALL = """
import gc, json, sys
gc.disable()
from typer.testing import CliRunner
from orchestrator.cli import app
found = {}
keys = {"ORCHESTRATOR_SECRET_KEYS": "a secret key of this machine, long enough"}
for words in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, words.split(), env=keys if "secrets" in words else {})
    found[words] = [result.exit_code, result.output]
print(json.dumps(found))
"""
#: Runs in the plain environment: what may be imported, and how the rest is refused.
IMPORT = """
import gc, sys
gc.disable()
import orchestrator.client, orchestrator.schemas, orchestrator.vendors
import orchestrator.events.destinations
assert not {"aiohttp", "cryptography", "sqlalchemy", "starlette", "structlog"} & set(sys.modules)
for name in ("orchestrator.app", "orchestrator.embed"):
    try:
        __import__(name)
    except ImportError as error:
        assert "pip install 'orchestrator[server]'" in str(error), error
    else:
        raise AssertionError(name)
"""
#: Runs with the libraries of the service: everything public, and what needs the files of the wheel.
SERVE = """
import gc, sys
gc.disable()
import orchestrator
from orchestrator import cli, client, embed, schemas, vendors
from orchestrator.events import destinations
assert orchestrator.__file__.startswith(sys.argv[1]), orchestrator.__file__
assert len(vendors.load()) >= 6 and len(destinations.load()) >= 2
sys.argv[1:] = ["migrate", "--json", "--database-url", "sqlite:///orchestrator.db"]
cli.main()
"""


@dataclass(frozen=True)
class Installed:
    """A wheel and an environment that has it without an extra."""

    wheel: Path
    folder: Path

    def run(self, *words: str | Path) -> str:
        """Return what a program of the environment prints, in an empty folder. It exits with 0."""
        return run(self.folder / "bin" / words[0], *words[1:], cwd=self.folder / "empty")


def run(*words: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """Return what a program prints. It exits with 0."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRATOR_", "PYTHON", "COVERAGE", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        words, cwd=cwd, env={**kept, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(
    tmp_path_factory: pytest.TempPathFactory, machine_authorities: str | None
) -> Installed:
    """Build the wheel, and install it with the locked libraries of a plain install."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "empty").mkdir()
    python = ("--python", sys.executable)
    offline = "--no-build-isolation", "--no-create-gitignore"
    run(BIN / "uv", "build", "--wheel", *offline, *python, "--out-dir", folder)
    (wheel,) = folder.glob("*.whl")
    plain = "--frozen", "--no-dev", "--no-install-project"
    here = {
        "UV_PROJECT_ENVIRONMENT": str(folder / "venv"),
        "SSL_CERT_FILE": machine_authorities or "",
    }
    run(BIN / "uv", "sync", *plain, *python, env=here)
    program = folder / "venv" / "bin" / "python"
    run(BIN / "uv", "pip", "install", "--no-deps", "--python", program, wheel)
    (folder / "venv" / "empty").mkdir()
    return Installed(wheel, folder / "venv")


def test_the_wheel_has_what_runs_and_nothing_else(installed: Installed) -> None:
    inside = set(zipfile.ZipFile(installed.wheel).namelist())
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "orchestrator").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    package = {name for name in inside if name.startswith("orchestrator/")}
    assert package == sources
    assert {
        "orchestrator/py.typed",
        "orchestrator/api/static/docs.html",
        "orchestrator/api/static/swagger-ui/swagger-ui-bundle.js",
        "orchestrator/database/migrations/script.py.mako",
        "orchestrator/database/migrations/versions/0001_first_schema.py",
    } <= package
    assert {name.split("/")[0] for name in inside - package} == {
        f"orchestrator-{__version__}.dist-info"
    }
    assert f"orchestrator-{__version__}.dist-info/licenses/LICENSE" in inside


def test_a_plain_install_has_the_client_and_says_how_to_get_the_service(
    installed: Installed,
) -> None:
    installed.run("python", "-c", IMPORT)


def test_a_plain_install_runs_the_commands_for_a_remote_server(installed: Installed) -> None:
    assert __version__ in installed.run("orchestrator", "version")
    helps = [f"{words} --help".strip() for words in HELP]
    everything = json.loads(
        installed.run("python", "-c", RUN_ALL, json.dumps([*helps, *SERVICE, "jobs ls"]))
    )
    for words in helps:
        assert everything[words][0] == 0, everything[words]
    assert everything["jobs ls"][0] == 8, "no server runs here"
    for words in SERVICE:
        code, output = everything[words]
        wanted = f"pip install 'orchestrator[{'demo' if words == 'demo' else 'server'}]'"
        assert code == 1, (words, output)
        assert wanted in output, (words, output)
        assert "Traceback" not in output
        assert len([line for line in output.splitlines() if line.startswith("error:")]) == 1


def test_the_simulator_names_the_extra_that_it_needs(installed: Installed) -> None:
    done = subprocess.run(
        [installed.folder / "bin" / "python", "-m", "orchestrator.simulator"],
        cwd=installed.folder / "empty",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'orchestrator[demo]'" in done.stderr


def test_the_service_runs_from_the_files_of_the_wheel(installed: Installed, tmp_path: Path) -> None:
    zipfile.ZipFile(installed.wheel).extractall(tmp_path / "wheel")
    where = str(tmp_path / "wheel")
    output = run(sys.executable, "-c", SERVE, where, cwd=tmp_path, env={"PYTHONPATH": where})
    assert json.loads(output)["applied"]
