"""Packages of Debian that tests need, installed as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence


class Missing(Exception):
    """A program is not installed. The message says what to do."""


def install(packages: Sequence[str]) -> None:
    """Install packages, as root on Debian. Raises `Missing` anywhere else."""
    if not packages:
        return
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"not installed: {names}; on Debian, as root: apt-get install {names}")
    print(f"installing {names}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        command = ["apt-get", "-qq", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"`{' '.join(command)}` failed: {done.stderr.strip()[-500:]}")
