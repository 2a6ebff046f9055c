"""`--output`: which addresses are fetched, which files are written, and when a download ends."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.cli import download, fetch
from orchestrator.cli.failure import Failure
from orchestrator.cli.terminal import Terminal
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.foundation.errors import Blocked
from tests.harness.command_line import JOB, KEY, Fake, faked, file, job, page, run

LOOPBACK = ("127.0.0.0/8",)
VIDEO = Path("v.mp4")


def made(*urls: str) -> dict[str, Any]:
    return job(output={"videos": [file(url, duration=5.0) for url in urls], "images": []})


def submitted(fake: Fake, *urls: str) -> Any:
    fake.script("POST /v1/jobs", (202, made(*urls)))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page()))
    return run(
        "--server", fake.url, "--api-key", KEY, "submit", "--prompt", "p", "--output", "v.mp4"
    )


def files() -> dict[str, str]:
    return {path.name: path.read_text() for path in Path().iterdir()}


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A server of results on this machine, which is allowed."""
    monkeypatch.setenv("ORCHESTRATOR_ALLOW_PRIVATE", "127.0.0.0/8")
    with faked() as found:
        yield found


@contextlib.contextmanager
def sending(*parts: bytes, more: bytes = b"") -> Iterator[str]:
    """Serve one raw answer to each request, then `more` without end; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65_536)
                        connection.sendall(b"".join(parts))
                        while more:
                            connection.sendall(more)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v.mp4"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def fetched(url: str, allow_private: Sequence[str] = LOOPBACK) -> None:
    download.download(Terminal(quiet=True), [download.public(url, allow_private)], VIDEO)


def test_results_are_downloaded_without_the_api_key(fake: Fake, results: Fake) -> None:
    for name in ("a", "b"):
        results.script(f"GET /{name}.mp4", (200, {"video": name}))
    assert submitted(fake, f"{results.url}/a.mp4", f"{results.url}/b.mp4").code == 0
    assert {name: json.loads(text)["video"] for name, text in files().items()} == {
        "v.mp4": "a",
        "v-2.mp4": "b",
    }
    assert all("authorization" not in headers for _, headers, _ in results.asked)
    assert VIDEO.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_file_that_needs_the_account_s_key_is_downloaded_from_the_server(
    fake: Fake, results: Fake
) -> None:
    results.script("GET /a.mp4", (200, {"video": "a"}))
    kept = file(f"{results.url}/b.mp4") | {"content_url": f"{results.url}/stolen"}
    made = job(output={"videos": [file(f"{results.url}/a.mp4")], "images": [], "audios": [kept]})
    fake.script("POST /v1/jobs", (202, made))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page()))
    fake.script(f"GET /v1/jobs/{JOB}/outputs/1", (200, {"audio": "b"}))
    server = ("--server", fake.url, "--api-key", KEY)
    assert run(*server, "submit", "--prompt", "p", "--output", "v.mp4").code == 0
    assert json.loads(files()["v-2.mp4"]) == {"audio": "b"}
    assert fake.asked[-1][1]["authorization"] == f"Bearer {KEY}"
    assert ["authorization" in headers for _, headers, _ in results.asked] == [False]


def test_a_server_that_gets_no_file_says_why(fake: Fake) -> None:
    kept = file("https://vendor.example/v.mp4") | {"content_url": f"{fake.url}/outputs/0"}
    fake.script("POST /v1/jobs", (202, job(output={"videos": [kept], "images": []})))
    fake.script(f"GET /v1/jobs/{JOB}/timeline", (200, page()))
    detail = "uniall answered 403 instead of the file"
    fake.script(f"GET /v1/jobs/{JOB}/outputs/0", (502, {"code": "vendor_error", "detail": detail}))
    server = ("--server", fake.url, "--api-key", KEY)
    ran = run(*server, "submit", "--prompt", "p", "--output", "v.mp4")
    assert ran.code == 1
    assert detail in ran.err
    assert files() == {}


def test_a_failed_download_leaves_the_old_file(fake: Fake, results: Fake) -> None:
    VIDEO.write_text("before")
    ran = submitted(fake, f"{results.url}/gone.mp4")
    assert ran.code == 1
    assert "answered 404" in ran.err
    assert files() == {"v.mp4": "before"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "[::ffff:127.0.0.1]", "169.254.169.254"]
)
def test_an_address_that_is_not_public_is_not_fetched(fake: Fake, host: str) -> None:
    with faked() as private:
        port = private.url.rpartition(":")[2]
        ran = submitted(fake, f"http://{host}:{port}/v.mp4")
        assert (ran.code, private.asked, files()) == (1, [], {})
    assert "ORCHESTRATOR_ALLOW_PRIVATE" in ran.err


def test_a_redirect_to_an_address_that_is_not_allowed_is_not_followed() -> None:
    with faked() as private:
        to = private.url.replace("127.0.0.1", "127.0.0.2").encode()
        answer = b"HTTP/1.1 302 Found\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % to
        with sending(answer) as url, pytest.raises(Failure, match="not fetched"):
            fetched(url, ["127.0.0.1/32"])
        assert private.asked == []


def test_a_name_is_fetched_from_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second lookup of a name may differ from the first (DNS rebinding)."""
    asked: list[str] = []

    def look_up(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("orchestrator.egress.address_policy.socket.getaddrinfo", look_up)
    with pytest.raises(Blocked):
        AddressPolicy().resolve("rebinding.example", 443)
    asked.clear()
    with pytest.raises(Failure, match="not fetched"):
        fetched("http://rebinding.example/", [])
    assert asked == ["rebinding.example"]


def test_redirects_are_followed_a_few_times(results: Fake) -> None:
    with faked() as other:
        other.script("GET /v.mp4", (200, {"video": "moved"}))
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other.url}/v.mp4\r\nContent-Length: 0\r\n\r\n"
        with sending(moved.encode()) as url:
            fetched(url)
    assert json.loads(VIDEO.read_text()) == {"video": "moved"}
    around = b"HTTP/1.1 302 Found\r\nLocation: /v.mp4\r\nContent-Length: 0\r\n\r\n"
    with sending(around) as url, pytest.raises(Failure, match="redirects more than 5 times"):
        fetched(url)


def test_no_file_but_the_new_one_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A link at the temporary name, or at the file's own, leads nowhere."""
    precious = tmp_path / "precious"
    precious.write_text("kept")
    Path(".v.mp4.known.part").symlink_to(precious)
    with sending(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as url:
        with monkeypatch.context() as patch:
            patch.setattr(secrets, "token_hex", lambda _: "known")
            with pytest.raises(Failure, match="exists"):
                fetched(url)
        VIDEO.symlink_to(precious)
        fetched(url)
    assert (precious.read_text(), VIDEO.read_text()) == ("kept", "ok")
    assert not VIDEO.is_symlink()


BOMB = gzip.compress(bytes(1 << 20))


@pytest.mark.parametrize(
    ("head", "more", "limit", "why"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536, "CAP", "larger than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"", "", "larger than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 8000000000\r\n\r\n", b"", "free", "MiB free"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + BOMB, b"", "", "is compressed"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\n\r\n", b"", "", "is compressed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"", "", "was not downloaded"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x", "_PATIENCE", "takes too long"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", "_HEAD", "takes too long"),
    ],
    ids=["large", "announced", "disk", "gzip", "nested", "half", "slow", "interim"],
)
def test_a_download_that_is_too_large_too_slow_or_broken_leaves_nothing(
    head: bytes, more: bytes, limit: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: dict[str, Callable[[], None]] = {
        "": lambda: None,
        "CAP": lambda: monkeypatch.setattr(download, "CAP", 1 << 20),
        "_PATIENCE": lambda: monkeypatch.setattr(download, "_PATIENCE", -1e9),
        "_HEAD": lambda: monkeypatch.setattr(fetch, "_HEAD", 0.2),
        "free": lambda: monkeypatch.setattr(
            shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 20})
        ),
    }
    limits[limit]()
    with sending(head, more=more) as url, pytest.raises(Failure, match=why):
        fetched(url)
    assert files() == {}


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "write", full)
    with (
        sending(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as url,
        pytest.raises(Failure, match="No space left on device"),
    ):
        fetched(url)


def test_the_certificate_is_verified_for_the_name_and_not_for_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[httpx.Request] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))

    monkeypatch.setattr(AddressPolicy, "resolve", lambda *_: ["93.184.216.34"])
    monkeypatch.setattr(
        fetch, "way", lambda _: {"transport": httpx.MockTransport(handle), "proxy": None}
    )
    fetched("https://cdn.example/v.mp4", [])
    (request,) = seen
    assert request.url.host == "93.184.216.34"
    assert request.headers["host"] == "cdn.example"
    assert request.extensions["sni_hostname"] == "cdn.example"
