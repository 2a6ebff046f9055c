"""Apprise: services with a host of their own alone, and the real library with a server of ours."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import apprise
import pytest
from apprise.plugins.discord import NotifyDiscord

from orchestrator.events.destinations import PublishFailed, Target
from orchestrator.events.destinations.apprise import SCHEMAS, Apprise
from orchestrator.foundation.errors import ConfigError
from tests.events.test_destinations import message

#: A library of Apprise imports what Python will drop.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr'")
ADDRESS = "apprise:discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
ON = Apprise(is_allowed=True)


class Service(ThreadingHTTPServer):
    """Keeps what is posted, and answers with a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[bytes] = []
        self.status = 204


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("NO_PROXY", "*")
    server = Service()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(NotifyDiscord, "notify_url", url)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def send(kind: str = "job.succeeded") -> str:
    target = Target(ADDRESS)
    connection = await ON.open(target, ssl.create_default_context())
    return await connection.publish(ON.encode(target, message(kind)))


async def test_a_message_is_sent_once_and_a_refusal_is_a_failure(service: Service) -> None:
    assert await send() == "sent"
    (body,) = service.received
    assert "a cat surfing" in json.dumps(json.loads(body))
    service.status = 404
    with pytest.raises(PublishFailed) as failed:
        await send()
    assert failed.value.code == "not_sent"
    assert "JHMHI8q" not in str(failed.value)


@pytest.mark.parametrize(
    "address",
    ["apprise:json://127.0.0.1", "apprise:file:///etc/passwd", "apprise:syslog://", "apprise:dbus://",
     "apprise:gotify://10.0.0.1/token", "apprise:mailto://u:p@10.0.0.1", "apprise:discord",
     "apprise:discord://a/b?verify=no", "apprise:apprise://10.0.0.1/t", "apprise:windows://",
     "apprise:fcm://project/device?keyfile=/etc/passwd", "apprise:zulip://bot@org.internal.corp/t"],
)  # fmt: skip
def test_what_could_reach_a_private_host_or_a_file_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        ON.check_address(address)


def test_it_is_off_by_default() -> None:
    ON.check_address(ADDRESS)
    with pytest.raises(ConfigError, match="allow_apprise = true"):
        Apprise().check_address(ADDRESS)


def test_no_address_of_an_allowed_service_names_a_host() -> None:
    """Apprise's own templates say so: another version may change them."""
    found = apprise.Apprise().details()["schemas"]
    known = {
        schema: one["details"]["templates"]
        for one in found
        for schema in (*(one["protocols"] or ()), *(one["secure_protocols"] or ()))
    }
    assert known.keys() >= SCHEMAS
    assert [name for name in SCHEMAS if any("{host}" in form for form in known[name])] == []
