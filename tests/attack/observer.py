"""`python observer.py PID URL KEY CAP`: watches a service from another process.

Its own process, so that the load of an attacker does not distort what it measures. It imports the
standard library alone, and starts at once. A line on stdin asks for the figures since the last
one, as a line of JSON; the end of stdin ends it. It kills a service whose memory exceeds CAP bytes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

#: Seconds between two samples of memory, two health checks, and two calls of another caller.
_SAMPLE, _HEALTH, _CALL = 0.01, 0.01, 0.1
#: Seconds until an answer counts as failed.
_TIMEOUT = 15.0
_MB = 1 << 20


class Observer:
    """Three threads that sample, and the figures since the last request for them."""

    def __init__(self, pid: int, url: str, key: str, cap: int) -> None:
        self._pid, self._cap = pid, cap
        self._address = urlsplit(url).netloc
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._failures: list[str] = []
        self._calls = 0
        self._worst = 0.0
        #: Start of the health check in progress.
        self._begun: float | None = None
        self._idle = self._peak = self._rss()
        self._killed = False

    def run(self) -> None:
        """Serve until stdin ends."""
        for work, pause in (
            (self._sample, _SAMPLE),
            (self._check_health, _HEALTH),
            (self._call, _CALL),
        ):
            threading.Thread(target=_forever, args=(work, pause), daemon=True).start()
        for _ in sys.stdin:
            print(json.dumps(self._figures()), flush=True)

    def _figures(self) -> dict[str, object]:
        begun = self._begun
        worst = max(self._worst, time.monotonic() - begun if begun else 0.0)
        figures = {
            "idle": self._idle / _MB,
            "peak": self._peak / _MB,
            "latency": worst,
            "calls": self._calls,
            "failures": self._failures,
            "killed": self._killed,
        }
        self._worst, self._failures, self._calls = 0.0, [], 0
        self._idle = self._peak = self._rss()
        return figures

    def _rss(self) -> int:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        return 0

    def _sample(self) -> None:
        rss = self._rss()
        self._peak = max(self._peak, rss)
        if rss > self._cap:
            self._killed = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _check_health(self) -> None:
        self._begun = begun = time.monotonic()
        try:
            status, _ = self._exchange("GET", "/healthz")
            if status != 200:
                self._failures.append(f"GET /healthz {status}")
        finally:
            self._worst = max(self._worst, time.monotonic() - begun)
            self._begun = None

    def _call(self) -> None:
        """Submit a job, read it, and wait for it, as another caller does."""
        order = json.dumps({"account": "main", "model": "m", "input": {"prompt": "p"}})
        _, job = self._expect(202, "POST", "/v1/jobs", order)
        path = f"/v1/jobs/{json.loads(job)['id']}"
        self._expect(200, "GET", path)
        self._expect(200, "GET", path, None, prefer="wait=1")

    def _expect(
        self, wanted: int, method: str, path: str, body: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        self._calls += 1
        status, content = self._exchange(method, path, body, **headers)
        if status != wanted:
            self._failures.append(f"{method} {path} {status}")
            raise OSError
        return status, content

    def _exchange(
        self, method: str, path: str, body: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body, {**self._headers, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._failures.append(f"{method} {path} {type(error).__name__}")
            raise OSError from error
        finally:
            connection.close()


def _forever(work: object, pause: float) -> None:
    assert callable(work)
    while True:
        with contextlib.suppress(OSError):
            work()
        time.sleep(pause)


if __name__ == "__main__":
    Observer(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])).run()
