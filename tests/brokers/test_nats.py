"""What only NATS has: its ways to log in, TLS that is asked for later, permissions, limits."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.events.destinations import PublishFailed, ResponseClass, Target
from orchestrator.events.destinations.nats import Nats
from orchestrator.foundation.errors import ConfigError
from tests.brokers.events import event
from tests.brokers.server import BrokerServer
from tests.brokers.servers.nats import NatsServer
from tests.brokers.test_publishers import publish
from tests.egress.test_certificates import Authority

R = ResponseClass
Start = Callable[[str, str], NatsServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a server with other users, and more of its configuration."""
    started: list[NatsServer] = []

    def begin(users: str, more: str) -> NatsServer:
        made = NatsServer(tmp_path)
        made.users, made.more = users or made.users, more
        made.start()
        started.append(made)
        return made

    yield begin
    for one in started:
        one.kill()


@pytest.fixture
def nats(running: dict[str, BrokerServer]) -> NatsServer:
    found = running["nats"]
    assert isinstance(found, NatsServer)
    return found


def at(server: NatsServer, scheme: str = "nats", host: str = "127.0.0.1", **login: str) -> Target:
    return Target(f"{scheme}://{host}:{server.port}/video.events", credentials=login)


def user_seed() -> tuple[str, str]:
    """Return a new seed, and its public key."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


async def test_an_nkey_logs_in_without_sending_the_seed(start: Start, pool: PublisherPool) -> None:
    seed, public = user_seed()
    app = '{ user: "app", password: "right" }\n'
    server = start(f"{app} {{ nkey: {public} }}\n", "")
    await server.prepare()
    receipt = await publish(pool, server, event(), at(server, secret=seed))
    assert receipt == "stream TESTS, sequence 1"
    other, _ = user_seed()
    with pytest.raises(PublishFailed) as caught:
        await publish(pool, server, event(), at(server, secret=other))
    assert caught.value.code == "credentials_refused"


async def test_a_token_logs_in(tmp_path: Path, pool: PublisherPool) -> None:
    class WithToken(NatsServer):
        def command(self) -> list[str]:
            command = [*super().command()]
            config = Path(command[-1])
            text = config.read_text().partition("authorization")[0]
            config.write_text(text + 'authorization { token: "right-token" }\n')
            return command

    server = WithToken(tmp_path)
    with server.running():
        with pytest.raises(PublishFailed) as caught:
            await publish(pool, server, event(), at(server, token="right-token"))
        # It is logged in: no stream stores the subject.
        assert caught.value.code == "no_stream"
        with pytest.raises(PublishFailed) as caught:
            await publish(pool, server, event(), at(server, token="wrong"))
        assert caught.value.code == "credentials_refused"


def jwt(issuer: nkeys.KeyPair, subject: str, **about: Any) -> str:
    """Return a JWT as NATS has them (https://github.com/nats-io/jwt), not issued at any time."""
    parts = [
        {"typ": "JWT", "alg": "ed25519-nkey"},
        {"jti": "x", "iat": 1, "iss": issuer.public_key.decode(), "name": "x", "sub": subject,
         "nats": {"version": 2, **about}},
    ]  # fmt: skip
    written = b".".join(base64.urlsafe_b64encode(json.dumps(one).encode()) for one in parts)
    written = written.replace(b"=", b"")
    signature = base64.urlsafe_b64encode(issuer.sign(written)).replace(b"=", b"")
    return (written + b"." + signature).decode()


async def test_a_creds_file_logs_in(tmp_path: Path, pool: PublisherPool) -> None:
    def pair(prefix: int) -> nkeys.KeyPair:
        return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))

    operator, account = pair(nkeys.PREFIX_BYTE_OPERATOR), pair(nkeys.PREFIX_BYTE_ACCOUNT)
    seed, user = user_seed()
    name = account.public_key.decode()
    limits = ("conn", "subs", "data", "payload")
    operator_jwt = jwt(operator, operator.public_key.decode(), type="operator")
    account_jwt = jwt(operator, name, type="account", limits=dict.fromkeys(limits, -1))
    user_jwt = jwt(account, user, type="user", subs=-1, data=-1, payload=-1)

    class WithOperator(NatsServer):
        def command(self) -> list[str]:
            config = self.folder / "operator.conf"
            config.write_text(
                f"listen: 127.0.0.1:{self.port}\noperator: {operator_jwt}\n"
                f"resolver: MEMORY\nresolver_preload: {{ {name}: {account_jwt} }}\n"
            )
            return [*super().command()[:-1], str(config)]

    creds = (
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    server = WithOperator(tmp_path)
    with server.running():
        for secret, code in ((creds, "no_stream"), (seed, "credentials_refused")):
            with pytest.raises(PublishFailed) as caught:
                await publish(pool, server, event(), at(server, secret=secret))
            assert caught.value.code == code


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_tls_verifies_the_server_with_the_authorities_of_the_settings(
    start: Start, tmp_path: Path, scheme: str
) -> None:
    authority = Authority(tmp_path)
    authority.server("localhost")
    pem = tmp_path / "server.pem"
    server = start("", f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}')
    policy, login = AddressPolicy(["127.0.0.0/8"]), {"username": "app", "password": "right"}
    trusting = PublisherPool(BrokerLoop(policy), str(authority.pem))
    with pytest.raises(PublishFailed) as caught:
        await publish(trusting, server, event(), at(server, scheme, "localhost", **login))
    assert caught.value.code == "no_stream"
    with pytest.raises(PublishFailed) as caught:
        await publish(trusting, server, event(), at(server, scheme, "127.0.0.1", **login))
    assert caught.value.code == "certificate_wrong_name"
    await trusting.aclose()
    wary = PublisherPool(BrokerLoop(policy))
    with pytest.raises(PublishFailed) as caught:
        await publish(wary, server, event(), at(server, scheme, "localhost", **login))
    assert caught.value.code == "certificate_unknown_issuer"
    await wary.aclose()


async def test_nothing_is_sent_to_a_server_that_does_not_encrypt_although_its_address_says_so(
    pool: PublisherPool,
) -> None:
    """An attacker between both would answer so, and read the password."""
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}\r\n')
                while data := peer.recv(4096):
                    heard.extend(data)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"tls://127.0.0.1:{listener.getsockname()[1]}/video.events"
        of, to = Nats(), Target(address, credentials={"username": "app", "password": "secret"})
        with pytest.raises(PublishFailed) as caught:
            await pool.publish("sub_1", of, to, of.encode(to, event()), lambda: True, 5)
        await asyncio.to_thread(thread.join)
    assert (caught.value.code, bytes(heard)) == ("tls_error", b"")


async def test_a_subject_that_the_user_may_not_publish_to_is_named_at_once(
    nats: NatsServer, pool: PublisherPool
) -> None:
    await nats.prepare()
    to = at(nats, username="limited", password="right")
    with pytest.raises(PublishFailed, match="does not permit") as caught:
        await publish(pool, nats, event(), to)
    assert (caught.value.code, caught.value.result) == ("credentials_refused", R.SHORTLY)


async def test_what_the_server_does_not_take_is_told_apart(start: Start) -> None:
    pool = PublisherPool(BrokerLoop(AddressPolicy(["127.0.0.0/8"])))
    server = start("", "max_payload: 900")
    await server.prepare()
    async with server.client() as client:
        stream = client.jetstream()
        await stream.update_stream(name="TESTS", subjects=["video.>"], max_msgs=1, discard="new")
    large = event()
    large = type(large)(large.event_id, large.type, b"x" * 1000, large.at, large.job_id)
    with pytest.raises(PublishFailed, match="up to 900 bytes") as caught:
        await publish(pool, server, large)
    assert (caught.value.code, caught.value.result) == ("message_too_large", R.SHORTLY)
    await publish(pool, server, event(1))
    with pytest.raises(PublishFailed, match="maximum messages exceeded") as caught:
        await publish(pool, server, event(2))
    assert (caught.value.code, caught.value.result) == ("stream_unavailable", R.LATER)
    await pool.aclose()


def test_the_subscribers_own_headers_are_sent_but_replace_none_of_ours() -> None:
    theirs = {"X-Team": "video", "nats-msg-id": "evil", "Nats-TTL": "1", "content-type": "evil"}
    made = Nats().encode(Target("nats://a/b", headers=theirs), event())
    assert made.headers == {
        "X-Team": "video", "Content-Type": "application/json", "Nats-Msg-Id": "evt_1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "is_subject"),
    [("video.events", True), ("video.%C3%A9", True), ("", False), ("a..b", False), ("a.*", False),
     ("a.>", False), ("a b", False), ("a.", False), ("a%0D%0APUB", False)],
)  # fmt: skip
def test_an_address_has_a_subject_without_wildcards(path: str, is_subject: bool) -> None:
    assert Nats().recognizes("nats://a/b")
    if is_subject:
        Nats().check_address(f"nats://nats.example.com:4222/{path}")
        return
    with pytest.raises(ConfigError, match="subject"):
        Nats().check_address(f"nats://nats.example.com:4222/{path}")


async def test_the_user_may_stand_in_the_address(nats: NatsServer, pool: PublisherPool) -> None:
    await nats.prepare()
    to = Target(f"nats://app@127.0.0.1:{nats.port}/video.events", credentials={"password": "right"})
    assert await publish(pool, nats, event(), to) == "stream TESTS, sequence 1"


def test_a_password_does_not_belong_into_an_address() -> None:
    with pytest.raises(ConfigError, match="credentials"):
        Nats().check_address("nats://user:password@nats.example.com/video")


def test_a_secret_is_a_seed_or_a_file_of_credentials() -> None:
    seed, _ = user_seed()
    option = Nats.credentials["secret"]
    assert option.fault(seed) is None
    assert option.fault("-----BEGIN NATS USER JWT-----\neyJ\n------END") is None
    assert option.fault(base64.b64encode(b"anything else").decode()) is not None
