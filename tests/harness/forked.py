"""`python -IS forked.py SOCKET MODULE ...`: runs a module in a process of the fork server.

That process has the streams, environment and folder of this one, gets its signals, and is killed
when this one ends; this one ends like it. So it can be started wherever a command is: in a shell,
or by `subprocess`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys

_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Run the module and end with its exit code, or by the signal that ended it."""
    path, *arguments = sys.argv[1:]
    request = {"arguments": arguments, "environment": {**os.environ}, "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        with server.makefile("r") as lines:
            pid = int(lines.readline())
            # Read by `fork_server.pid_of`, and shown by ps.
            with open("/proc/self/comm", "w") as name:
                name.write(str(pid))
            for number in _FORWARDED:
                signal.signal(number, lambda number, _: _forward(pid, number))
            code = int(lines.readline())
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _forward(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    main()
