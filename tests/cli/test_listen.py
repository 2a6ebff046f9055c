"""`orchestrator listen`: every event reaches screen and consumer in order, despite kills."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import stat
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from orchestrator.cli.listen.forward import Forwarder
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import EventType
from tests.harness.api_caller import KEY, until
from tests.harness.command_line import SECRET, run
from tests.harness.followers import serving
from tests.harness.listeners import consuming, listener
from tests.harness.processes import Replica, free_port

pytestmark = pytest.mark.long


async def test_after_a_kill_it_resumes_where_it_was(tmp_path: Path) -> None:
    """No event is missing; at most the one in flight comes twice."""
    async with (
        serving(tmp_path) as service,
        consuming() as consumer,
        listener(tmp_path, service.url) as it,
    ):
        words = ("--forward-to", consumer.url)
        await it.start(*words)
        await it.says("listening to")
        saying = asyncio.create_task(service.count(0, 200))
        for reached in (40, 100):
            await consumer.reaches(reached)
            assert await it.end(signal.SIGKILL) == -signal.SIGKILL
            await it.start(*words)
        ids = await saying
        await consumer.hears(*ids)
        assert consumer.first_times == ids
        assert len(consumer.got) - len(ids) <= 2, "one in flight for each kill"
        await until(lambda: it.bookmark.read_text().strip() == ids[-1], "the last event is handled")
        assert await it.end() == 130
        await it.says(f"the same command goes on after {ids[-1]}")


@contextlib.asynccontextmanager
async def killing(server: Replica) -> AsyncIterator[None]:
    """Kill the server at the end of the block."""
    try:
        yield
    finally:
        if server.child is not None:
            await server.stop(signal.SIGKILL)


async def test_a_killed_server_loses_no_event_and_the_outage_is_reported(tmp_path: Path) -> None:
    dead_end = {"vendor": "kling", "base_url": "http://127.0.0.1:9", "api_key": "k"}
    server = Replica(tmp_path, {"main": dead_end}, program="orchestrator")
    order = {"account": "main", "model": "kling-v1", "input": {"prompt": "p"}}
    keyed = httpx.AsyncClient(
        base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20, verify=False
    )
    killed = asyncio.Event()

    async def cancel(jobs: list[str]) -> None:
        for job in jobs:
            canceled = False
            while not canceled:
                with contextlib.suppress(httpx.TransportError):
                    canceled = (await http.post(f"/v1/jobs/{job}/cancel")).status_code in (200, 409)
            if job == jobs[len(jobs) // 2]:
                await killed.wait()

    async with (
        keyed as http,
        consuming() as consumer,
        listener(tmp_path, server.url) as it,
        killing(server),
    ):
        await server.start()
        await server.ready(http)
        jobs = [(await http.post("/v1/jobs", json=order)).json()["id"] for _ in range(60)]
        await it.start("--forward-to", consumer.url, "--events", "job.*")
        await it.says("listening to")
        canceling = asyncio.create_task(cancel(jobs))
        await consumer.reaches(10)
        await server.stop(signal.SIGKILL)
        await it.says("trying again until it answers")
        killed.set()
        await server.start()
        await canceling
        await server.ready(http)
        events = (await http.get("/v1/events?limit=200&type=job.canceled")).json()["data"]
        assert len(events) == len(jobs)
        await consumer.hears(*(row["id"] for row in reversed(events)))
        assert len(consumer.got) == len(jobs), (
            "the cursor is the listener's: a server's restart repeats nothing"
        )
        # Reported after the events.
        await it.says("reconnected")
        assert it.err.count("reconnected") == it.err.count("trying again until it answers") == 1


async def test_forwarded_events_are_signed_with_a_lasting_secret(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as service,
        consuming() as consumer,
        listener(tmp_path, service.url) as it,
    ):
        consumer.secret = it.ran("--forward-to", consumer.url, "--print-secret").out.strip()
        (kept,) = (tmp_path / "state" / "orchestrator" / "listen").glob("*.secret")
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        await it.start(
            "--forward-to",
            consumer.url.removeprefix("http://"),
            "--header",
            "X-Mine: yes",
            "--json",
        )
        await it.says("listening to")
        assert consumer.secret in it.err
        consumer.statuses = [500, 301]
        ids = await service.say({"n": 1}, {"n": 2}, {"n": 3})
        await consumer.hears(*ids)
        assert [sent["data"] for sent in consumer.events] == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert {"object", "job", "source"}.isdisjoint(consumer.events[0]), (
            "a forwarded event is what a subscriber gets"
        )
        assert consumer.headers[0]["x-mine"] == "yes"
        await until(lambda: it.out.count("\n") == 3, "three documents are printed")
        printed = [json.loads(line) for line in it.out.splitlines()]
        assert [(row["id"], row["forwarded"]["status"]) for row in printed] == [
            *zip(ids, (500, 301, 204), strict=True)
        ]
        # A second one would send the consumer every event twice.
        assert it.ran("--forward-to", consumer.url).code == 5


async def test_an_absent_consumer_is_retried_and_gets_all_events_in_order(tmp_path: Path) -> None:
    port = free_port()
    async with serving(tmp_path) as service, listener(tmp_path, service.url) as it:
        await it.start("--forward-to", f"127.0.0.1:{port}/hook")
        await it.says("listening to")
        ids = await service.count(0, 5)
        await it.says("cannot be reached")
        async with consuming(port) as consumer:
            await consumer.hears(*ids)
            await it.says("answers again")
            assert consumer.got == ids
        lines = [re.split(r"\s{2,}", line) for line in it.out.splitlines()]
        assert [line[1:3] for line in lines] == [["job.succeeded", "-"]] * 5
        assert all(line[3] == "-> 204" for line in lines)


def test_a_consumer_that_breaks_off_is_retried_a_few_times() -> None:
    """An event that kills its consumer each time must not block all others."""
    notices: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as breaking:
        thread = threading.Thread(target=_break_off, args=(breaking,))
        thread.start()
        url = f"http://127.0.0.1:{breaking.getsockname()[1]}/"
        with contextlib.closing(
            Forwarder(url, SECRET, {}, SystemClock(), notices.append)
        ) as forwarder:
            answer = forwarder.send("evt_1", b"{}")
        breaking.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert (answer.status, answer.words) == (None, "broke off")
    assert len(notices) == 1


def _break_off(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            listening.accept()[0].close()


async def test_it_begins_where_it_is_asked_to(tmp_path: Path) -> None:
    """With an event, which is shown again; some time ago; or, by default, now."""
    async with serving(tmp_path) as service, listener(tmp_path, service.url) as it:
        ids, failed, times = await service.count(0, 4), list[str](), 0
        for words, expected in [
            (("--from", ids[2][:-2]), ids[2:]),
            (("--since", "1h"), ids),
            (("--since", "1h", "--events", "job.failed,account.*"), failed),
        ]:
            before = it.out if (tmp_path / "listen.out").exists() else ""
            await it.start("-q", *words)
            await it.says("listening to", times := times + 1)
            later = await service.say({"n": 9}, kind=EventType.JOB_FAILED)
            await it.prints(later[0])
            assert await it.end() == 130
            assert it.out.removeprefix(before).split() == [*expected, *later]
            ids += later
            failed += later


async def test_a_gap_in_the_log_is_reported_and_passed(tmp_path: Path) -> None:
    async with serving(tmp_path) as service, listener(tmp_path, service.url) as it:
        await it.start("-q")
        await it.says("listening to")
        await it.end()
        longer_ago = SystemClock().now() - timedelta(days=90)
        it.bookmark.write_text(earliest("evt", longer_ago)[:-1] + "8\n")
        ids = await service.count(0, 2)
        await it.start("-q")
        await it.prints(ids[-1])
        assert "STREAM GAP" in it.err
        await it.end()
        it.bookmark.write_text("half an id\n")
        assert it.ran("-q").code == 1, "an unreadable cursor is an error"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 8, "cannot be reached"),
        (("--forward-to", "ftp://x"), 2, "is no http(s) URL"),
        (("--header", "webhook-id: mine"), 2, "is set by the signature"),
        (("--since", "1h", "--from", "evt_0"), 2, "exclude each other"),
        (("--secret", "whsec_?"), 2, "whsec_ followed by Base64"),
    ],
)
def test_invalid_options_are_refused_at_once(
    words: tuple[str, ...], code: int, message: str
) -> None:
    ran = run("--server", "http://127.0.0.1:1", "listen", *words)
    assert ran.code == code
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", ran.err).split())
