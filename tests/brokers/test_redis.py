"""What only Redis has: its errors, TLS, the length of a stream, entries that are idempotent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.events.destinations import PublishFailed, ResponseClass, Target
from orchestrator.events.destinations.redis import Redis
from orchestrator.foundation.errors import ConfigError
from tests.brokers.events import event
from tests.brokers.server import BrokerServer
from tests.brokers.servers.redis import RedisServer
from tests.brokers.test_publishers import publish
from tests.egress.test_certificates import Authority

R = ResponseClass
pytestmark = [pytest.mark.brokers] if RedisServer.needs else []


@pytest.fixture
async def redis(running: dict[str, BrokerServer]) -> RedisServer:
    found = running["redis"]
    assert isinstance(found, RedisServer)
    await found.prepare()
    return found


async def failed(
    pool: PublisherPool, server: RedisServer, to: Target | None = None
) -> PublishFailed:
    with pytest.raises(PublishFailed) as caught:
        await publish(pool, server, event(), to)
    return caught.value


async def test_a_key_that_is_no_stream_is_named(redis: RedisServer, pool: PublisherPool) -> None:
    async with redis.client() as client:
        await client.set("video-events", "not a stream")
    error = await failed(pool, redis)
    assert (error.code, error.result) == ("wrong_type", R.SHORTLY)
    await redis.prepare()


async def test_a_full_server_rests_and_a_replica_is_left(
    redis: RedisServer, pool: PublisherPool
) -> None:
    await publish(pool, redis, event())
    async with redis.client() as client:
        await client.config_set("maxmemory", 1)
        full = await failed(pool, redis)
        await client.config_set("maxmemory", 0)
        await client.replicaof("127.0.0.1", "1")
        replica = await failed(pool, redis)
        await client.replicaof("no", "one")
    assert (full.code, full.result, full.is_broken) == ("oom", R.LATER, False)
    assert full.rest is not None
    assert (replica.code, replica.result, replica.is_broken) == ("readonly", R.LATER, True)
    await publish(pool, redis, event())


async def test_a_user_without_the_right_is_named(redis: RedisServer, pool: PublisherPool) -> None:
    async with redis.client() as client:
        for name, commands in (("reader", ["+get"]), ("writer", ["+xadd"])):
            await client.acl_setuser(
                name, enabled=True, passwords=["+right"], keys=["*"], commands=commands
            )
    address = redis.target().address
    reader = Target(address, credentials={"username": "reader", "password": "right"})
    error = await failed(pool, redis, reader)
    assert (error.code, error.result) == ("credentials_refused", R.SHORTLY)
    # No other command is needed.
    writer = Target(address.replace("//", "//writer@"), credentials={"password": "right"})
    await publish(pool, redis, event(), writer)
    error = await failed(pool, redis, Target(address))
    assert error.code == "credentials_refused"


async def test_a_stream_keeps_about_maxlen_entries(redis: RedisServer, pool: PublisherPool) -> None:
    to = redis.target(maxlen="100")
    await asyncio.gather(*(publish(pool, redis, event(n), to) for n in range(500)))
    assert 100 <= len(await redis.consume()) < 300


async def test_an_entry_has_its_fields(redis: RedisServer, pool: PublisherPool) -> None:
    await publish(pool, redis, event())
    (found,) = await redis.consume()
    assert set(found.headers) == {"id", "type", "job", "content-type", "body"}
    assert (found.headers["type"], found.headers["job"]) == ("job.succeeded", event().job_id)


@contextlib.asynccontextmanager
async def encrypting(port: int, tls: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve TLS in front of a port."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(forward(reader, back), forward(there, writer))
        await asyncio.gather(back.wait_closed(), writer.wait_closed(), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_tls_verifies_the_server_with_the_authorities_of_the_settings(
    redis: RedisServer, tmp_path: Path
) -> None:
    authority, login = Authority(tmp_path), {"password": "right"}
    policy = AddressPolicy(["127.0.0.0/8"])
    async with encrypting(redis.port, authority.server("localhost")) as port:
        named, literal = (
            Target(f"rediss://{host}:{port}/0?stream=video-events", credentials=login)
            for host in ("localhost", "127.0.0.1")
        )
        trusting = PublisherPool(BrokerLoop(policy), str(authority.pem))
        await publish(trusting, redis, event(), named)
        assert (await failed(trusting, redis, literal)).code == "certificate_wrong_name"
        await trusting.aclose()
        wary = PublisherPool(BrokerLoop(policy))
        assert (await failed(wary, redis, named)).code == "certificate_unknown_issuer"
        await wary.aclose()


@contextlib.asynccontextmanager
async def answering(**answers: bytes) -> AsyncIterator[tuple[int, list[list[bytes]]]]:
    """Serve RESP with fixed replies by command; yield the port and the commands that came."""
    commands: list[list[bytes]] = []

    async def read(reader: asyncio.StreamReader) -> list[bytes]:
        count = int((await reader.readline())[1:])
        found = []
        for _ in range(count):
            size = int((await reader.readline())[1:])
            found.append((await reader.readexactly(size + 2))[:-2])
        return found

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError, OSError, asyncio.IncompleteReadError):
            while True:
                commands.append(command := await read(reader))
                writer.write(answers.get(command[0].decode().upper(), b"+OK") + b"\r\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], commands


def bulk(text: str) -> bytes:
    return b"$%d\r\n%b" % (len(text), text.encode())


@pytest.mark.parametrize(
    ("info", "drops"),
    [("redis_version:8.6.0", True), ("redis_version:8.4.1", False), ("redis_version:10.0.0", True),
     ("redis_version:9.0.0\r\nvalkey_version:9.0.0", False), ("", False)],
)  # fmt: skip
async def test_an_entry_is_idempotent_where_the_server_can(
    pool: PublisherPool, info: str, drops: bool
) -> None:
    of = Redis()
    async with answering(INFO=bulk(info), XADD=bulk("1-1")) as (port, commands):
        to = Target(f"redis://127.0.0.1:{port}/0?stream=s")
        receipt = await pool.publish("sub_1", of, to, of.encode(to, event()), lambda: True, 5)
        await pool.aclose()
    assert receipt == "stream s, entry 1-1"
    entry = commands[-1]
    assert (entry[:5] == [b"XADD", b"s", b"IDMP", b"orchestrator", b"evt_1"]) is drops


@pytest.mark.parametrize(
    ("reply", "code", "result"),
    [
        (b"-MOVED 3999 10.0.0.7:6381", "moved", R.LATER),
        (b"-LOADING Redis is loading the dataset in memory", "loading", R.LATER),
        (b"-MISCONF Errors writing to the AOF file", "misconf", R.LATER),
        (b"-NOREPLICAS Not enough good replicas to write.", "noreplicas", R.LATER),
        (b"-CLUSTERDOWN Hash slot not served", "clusterdown", R.LATER),
        (b"-NOAUTH Authentication required.", "credentials_refused", R.SHORTLY),
        (b"-ERR unknown command 'XADD'", "refused", R.SHORTLY),
    ],
)
async def test_an_error_of_the_server_is_classified(
    pool: PublisherPool, reply: bytes, code: str, result: ResponseClass
) -> None:
    of = Redis()
    async with answering(XADD=reply, INFO=bulk("")) as (port, _):
        to = Target(f"redis://127.0.0.1:{port}/0?stream=s")
        with pytest.raises(PublishFailed) as caught:
            await pool.publish("sub_1", of, to, of.encode(to, event()), lambda: True, 5)
        await pool.aclose()
    assert (caught.value.code, caught.value.result) == (code, result)


@pytest.mark.parametrize(
    "address",
    ["redis://redis.example.com/0", "redis://redis.example.com/x?stream=s",
     "redis://user:password@redis.example.com/0?stream=s"],
)  # fmt: skip
def test_an_address_names_a_stream_and_no_secret(address: str) -> None:
    Redis().check_address(Redis.example)
    with pytest.raises(ConfigError):
        Redis().check_address(address)
