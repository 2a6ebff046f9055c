"""Node and the packages of `package-lock.json`, installed once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.harness import npm
from tests.harness.build_cache import cached

HERE = Path(__file__).parent
NODE = npm.NODE


def packages() -> Path:
    """Return a folder with `node_modules`.

    The npm registry is used only for the first install of a lock.
    """
    locked = (HERE / "package.json", HERE / "package-lock.json")
    return cached("node", locked, npm.install)


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
