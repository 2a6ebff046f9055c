"""Go, and a program in it with the library that `go.sum` names, built once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.third_party.cache import kept

_GO = str(Path(sys.prefix) / "bin" / "go")
#: Built sooner, not to run faster.
_QUICKLY = ("-gcflags=all=-N -l", "-ldflags=-s -w")


def verifier() -> str:
    """Return the program. Only once, and when its files have changed, is Go's module proxy asked."""
    return str(kept("go", ("go.mod", "go.sum", "verify.go"), _build) / "verify")


def _build(folder: Path) -> None:
    places = {"GOPATH": str(folder / "path"), "GOCACHE": str(folder / "cache"), "CGO_ENABLED": "0"}
    environment = {**os.environ, **places, "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
    # Whatever else the machine does goes first: it is the whole standard library that is built here.
    words = ["nice", "-n", "19", _GO, "build", *_QUICKLY, "-o", "verify", "."]
    ran = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=580, check=False
    )
    assert ran.returncode == 0, f"go build needs the module proxy this once: {ran.stderr}"
    for name in ("path", "cache"):
        shutil.rmtree(folder / name)
