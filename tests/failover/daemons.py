"""Programs of others that run in the background: where they come from, starting and ending them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.harness import clusters, debian
from tests.harness.debian import Missing

#: The programs, each with the package of Debian that has it.
PROGRAMS: Mapping[str, str] = {
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "pgbouncer": "pgbouncer",
}
#: Where Debian puts programs for administrators.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))


def located(name: str) -> str:
    """Return the path of a program; Patroni is in the folder of this interpreter."""
    path = os.pathsep.join((str(Path(sys.executable).parent), _PATH))
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def install() -> None:
    """Install what is missing, as root on Debian. Raises `Missing` anywhere else."""
    debian.install([of for name, of in PROGRAMS.items() if shutil.which(name, path=_PATH) is None])


def _as_user() -> list[str]:
    """Return the start of a command line that root gives to the user of the servers.

    The interpreter that runs Patroni may lie in a folder of root's: that capability opens it.
    """
    name = clusters.user()
    if name is None:
        return []
    capability = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups", *capability]


class Daemon:
    """A program that runs until `end` or `kill`, as a user that PostgreSQL accepts."""

    def __init__(self, place: Path, name: str, words: Sequence[str]) -> None:
        self.log = place / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_user(), located(words[0]), *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place,
                env={"PATH": _PATH, "HOME": str(place), "LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """End it by SIGTERM, and after ten seconds by SIGKILL."""
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
            return
        self.kill()
