"""`python -m tests.attack.service serve`: the product under limits of the machine.

ATTACK_MEMORY  bytes of address space    ATTACK_FILES  open files
"""

from __future__ import annotations

import os
import resource
import signal

from orchestrator.cli import main


def limit() -> None:
    """Apply the environment variables. SIGHUP is not inherited as ignored, as under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name, kind in (("MEMORY", resource.RLIMIT_AS), ("FILES", resource.RLIMIT_NOFILE)):
        if value := os.environ.get(f"ATTACK_{name}"):
            resource.setrlimit(kind, (int(value), int(value)))


if __name__ == "__main__":
    limit()
    main()
