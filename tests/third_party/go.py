"""Go programs, compiled with one cache of packages, and a program with the library of `go.sum`."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.harness.build_cache import cached

GO = str(Path(sys.prefix) / "bin" / "go")
#: Optimize build time, not run time. The same flags everywhere, or the cache is of no use.
FLAGS = ("-gcflags=all=-N -l", "-ldflags=-s -w")
#: Compiled packages, kept between runs. `make clean` removes them with the virtual environment.
_CACHE = Path(sys.prefix) / ".go-build"


def environment() -> dict[str, str]:
    """Return the environment in which to run Go."""
    settings = {"GOCACHE": str(_CACHE), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    return {**os.environ, **settings}


def compile_standard_library() -> None:
    """Fill the cache with what an HTTP server needs: 20 seconds of CPU once, in one process."""
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _run(_CACHE, "build", *FLAGS, "net/http", "encoding/json", "log")


def verifier() -> str:
    """Return the program's path.

    The Go module proxy is used only for the first build of these files.
    """
    sources = [Path(__file__).parent / name for name in ("go.mod", "go.sum", "verify.go")]
    return str(cached("go", sources, _build) / "verify")


def _build(folder: Path) -> None:
    compile_standard_library()
    modules = folder / "path"
    _run(folder, "build", *FLAGS, "-modcacherw", "-o", "verify", ".", GOPATH=str(modules))
    shutil.rmtree(modules)


def _run(folder: Path, *arguments: str, **variables: str) -> None:
    # Low priority: other tests have timeouts.
    result = subprocess.run(
        ["nice", "-n", "19", GO, *arguments], cwd=folder, env=environment() | variables,
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"go {arguments[0]} failed: {result.stderr}"
