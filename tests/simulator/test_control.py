"""Credentials, batches, uploads, sample jobs, the subscriber, and control over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import shlex
import socket
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest
from standardwebhooks import Webhook
from starlette.responses import PlainTextResponse

from orchestrator.simulator import Faults, SimulatedVendors, Subscriber
from orchestrator.simulator.__main__ import arguments, configuration
from orchestrator.simulator.accounts import CREDENTIALS, SIMULATED, account_settings, webhook_secret
from orchestrator.simulator.dialects.cubicspaces import Shape
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
from orchestrator.simulator.server import LocalServer
from orchestrator.simulator.subscriber import Misbehaviour

Json = dict[str, Any]
SECRET, OLD_SECRET = webhook_secret("a subscriber"), webhook_secret("before the rotation")
TASKS = "cloudsway/v1/ai/sim-endpoint/kling/tasks"
LEGACY = {"model_name": "kling-v3", "prompt": "a rabbit", "duration": "5"}


def bearer(vendor: str) -> dict[str, str]:
    return {"authorization": f"Bearer {CREDENTIALS[vendor].api_key}"}


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[SimulatedVendors, httpx.AsyncClient]]:
    vendors = SimulatedVendors(**{"render_seconds": 0.02, **options})
    async with vendors, httpx.AsyncClient(base_url=vendors.base_url, verify=False) as http:
        yield vendors, http


@contextlib.asynccontextmanager
async def subscribed() -> AsyncIterator[tuple[Subscriber, httpx.AsyncClient]]:
    async with (
        Subscriber([OLD_SECRET, SECRET]) as subscriber,
        httpx.AsyncClient(verify=False) as http,
    ):
        yield subscriber, http


def delivery(
    event: str = "evt_1", type_: str = "job.succeeded", secret: str = SECRET, **more: object
) -> Json:
    body = json.dumps({"type": type_, "data": {"id": "job_1"}, **more})
    now = datetime.now(UTC)
    headers = {"webhook-id": event, "webhook-timestamp": str(int(now.timestamp()))}
    return {
        "content": body,
        "headers": {**headers, "webhook-signature": Webhook(secret).sign(event, now, body)},
    }


@pytest.mark.parametrize(
    ("path", "exp", "nbf", "answer"),
    [
        ("kling/v1/videos/text2video", 1800, -5, (200, 0)),
        ("kling/v1/videos/text2video", -10, -60, (401, 1004)),
        ("kling/v1/videos/text2video", 1800, 60, (401, 1003)),
        ("kling/text-to-video/kling-3.0", 1800, -5, (401, 1002)),
    ],
)
async def test_kling_accepts_a_jwt_on_legacy_routes_only(
    path: str, exp: int, nbf: int, answer: tuple[int, int]
) -> None:
    keys, now = CREDENTIALS["kling"], int(time.time())
    token = jwt.encode(
        {"iss": keys.access_key, "exp": now + exp, "nbf": now + nbf}, keys.secret_key
    )
    async with running() as (vendors, http):
        response = await http.post(path, json=LEGACY, headers={"authorization": f"Bearer {token}"})
        assert (response.status_code, response.json()["code"]) == answer
        assert bool(vendors.violations) == (answer[0] != 200)


@pytest.mark.parametrize(
    ("shape", "mark"),
    [("video", '"metadata":'), ("task", '"result_url":'), ("old_task", '"fail_reason":"https://')],
)
async def test_cubicspaces_answers_in_the_chosen_shape(shape: Shape, mark: str) -> None:
    path = "cubicspaces/v1/video/generations"
    async with running(answers=shape) as (vendors, http):
        made = await http.post(
            path, json={"model": "kling-v3", "prompt": "x"}, headers=bearer("cubicspaces")
        )
        await vendors.idle()
        assert (
            mark
            in (await http.get(f"{path}/{made.json()['id']}", headers=bearer("cubicspaces"))).text
        )


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("task_ids=" + ",".join(["1"] * 20), 200),
        ("task_ids=1&external_task_ids=", 200),
        ("task_ids=" + ",".join(["1"] * 21), 400),
        ("task_ids=1&external_task_ids=2", 400),
        ("task_ids=&external_task_ids=", 400),
        ("task_ids=1&page=2", 400),
    ],
)
async def test_a_batch_holds_twenty_ids_of_one_kind(query: str, status: int) -> None:
    async with running() as (vendors, http):
        assert (
            await http.get(f"{TASKS}?{query}", headers=bearer("cloudsway"))
        ).status_code == status
        assert bool(vendors.violations) == (status != 200)


@pytest.mark.parametrize(("field", "status"), [("purpose", 200), ("reason", 422)])
async def test_dreamto_accepts_uploads_with_exactly_the_documented_fields(
    field: str, status: int
) -> None:
    async with running() as (vendors, http):
        form, file = {"kind": "video", field: "reference"}, {"file": ("demo.mp4", b"...")}
        answer = await http.post(
            "dreamto/v1/files/upload", data=form, files=file, headers=bearer("dreamto")
        )
        assert (answer.status_code, bool(vendors.violations)) == (status, status != 200)


def test_every_simulated_account_has_settings_and_sample_jobs() -> None:
    names = [name for name, _ in SIMULATED]
    assert {account for account, _, _ in SAMPLE_JOBS} == set(names)
    assert all(job["account"] == account for account, _, job in SAMPLE_JOBS)
    assert account_settings("http://sim:1", "kling_new")["base_url"] == "http://sim:1/kling_v2"


def test_every_account_of_the_configuration_has_a_command_that_uses_it() -> None:
    lines = configuration("http://127.0.0.1:9100").splitlines()
    commands = {name: lines[lines.index(f"[accounts.{name}]") - 1] for name, _ in SIMULATED}
    for name, line in commands.items():
        comment, program, command, *words = shlex.split(line)
        options = dict(zip(words[::2], [*words[1::2], ""], strict=True))
        assert (comment, program, command, options["--account"]) == (
            "#",
            "orchestrator",
            "submit",
            name,
        )
        assert options["--model"] in {
            job["model"] for account, _, job in SAMPLE_JOBS if account == name
        }
    assert set(tomllib.loads("\n".join(lines))["accounts"]) == set(commands)


async def test_the_subscriber_verifies_with_any_of_its_secrets_and_counts_repeats() -> None:
    async with subscribed() as (subscriber, http):
        for sent in (
            delivery(),
            delivery(),
            delivery("evt_2", secret=OLD_SECRET),
            delivery("evt_3", "job.processing"),
        ):
            assert (await http.post(subscriber.url, **sent)).status_code == 200
        await http.post(subscriber.url, **delivery("evt_4", secret=webhook_secret("unknown")))
        await http.post(subscriber.url, **delivery("evt_5", late=True))
        verified = [received.verified for received in subscriber.received]
        assert verified == [True, True, True, True, False, True]
        assert subscriber.duplicates() == {"evt_1": 1}
        assert subscriber.completions() == {"job_1": 3}


@pytest.mark.parametrize(
    ("how", "status"), [("error", 500), ("gone", 410), ("slow_down", 429), ("redirect", 302)]
)
async def test_the_subscriber_misbehaves_the_given_number_of_times(
    how: Misbehaviour, status: int
) -> None:
    async with subscribed() as (subscriber, http):
        subscriber.misbehave(how, times=1, seconds=7)
        answer = await http.post(subscriber.url, **delivery())
        assert (answer.status_code, answer.headers.get("retry-after")) == (
            status,
            "7" if status == 429 else None,
        )
        assert (await http.post(subscriber.url, **delivery())).status_code == 200
        assert not subscriber.duplicates()


@pytest.mark.parametrize("how", ["hang", "trickle"])
async def test_the_subscriber_can_delay_its_response(how: Misbehaviour) -> None:
    async with subscribed() as (subscriber, http):
        subscriber.misbehave(how)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(http.post(subscriber.url, **delivery()), 0.3)
        assert len(subscriber.received) == 1


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"text": "done", "blocks": [{"type": "section"}]}, (200, "ok")),
        ({"blocks": []}, (400, "no_text")),
        ({"text": "done", "blocks": [{}]}, (400, "invalid_blocks")),
    ],
)
async def test_slack_checks_the_form_of_a_message(body: Json, answer: tuple[int, str]) -> None:
    async with subscribed() as (subscriber, http):
        response = await http.post(subscriber.slack_url, json=body)
        assert (response.status_code, response.text) == answer


def test_help_lists_every_fault_with_a_line_of_what_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulator", "--help"])
    with pytest.raises(SystemExit, match="0"):
        arguments()
    faults = capsys.readouterr().out.partition("\nfaults")[2].partition(":\n")[2]
    listed = dict(line.split(maxsplit=1) for line in faults.splitlines() if line)
    assert [*listed] == [fault.name for fault in dataclasses.fields(Faults)]
    assert len({*listed.values()}) == len(listed)
    assert all(len(line) <= 100 for line in faults.splitlines())


async def test_the_process_is_controlled_over_http_and_exits_cleanly() -> None:
    options = {"port": "0", "subscriber-port": "0", "render-seconds": "0.05"}
    given = [f"--{name}={value}" for name, value in options.items()]
    given += ["--faults", '{"drop_push": 1}']
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator.simulator", *given, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    urls = json.loads(await process.stdout.readline())
    async with httpx.AsyncClient(verify=False) as http:
        control = urls["control"]
        assert (await http.put(f"{control}/faults", json={"drop_pushes": 1})).status_code == 422
        assert (await http.put(f"{control}/faults", json={})).json()["drop_push"] == 0
        assert (await http.post(f"{control}/secret", json={"secret": SECRET})).status_code == 200
        script = {"vendor": "kling", "operation": "submit", "fault": "refuse_rate", "times": 1}
        assert (await http.post(f"{control}/inject", json=script)).status_code == 200
        await http.post(urls["hook"], **delivery())
        path = f"{urls['vendors']['kling']}/v1/videos/text2video"
        body = {**LEGACY, "callback_url": urls["hook"]}
        answers = [await http.post(path, json=body, headers=bearer("kling")) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [429, 200]
        report: Json = {"pushes": []}
        while [push["status"] for push in report["pushes"]] != [200] * 3:
            await asyncio.sleep(0.01)
            report = (await http.get(f"{control}/report")).json()
        assert report["renders"][0]["state"] == "succeeded"
        assert (report["violations"], report["double_renders"]) == ([], [])
        assert report["subscriber"]["verified"] == 1
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize("iterations", range(8))
async def test_a_connection_accepted_while_a_server_stops_is_closed(iterations: int) -> None:
    """python/cpython#109564: such a connection stayed open for ever."""
    server = LocalServer(PlainTextResponse("hello"))
    await server.start()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
        client.setblocking(False)
        for _ in range(iterations):
            await asyncio.sleep(0)
        await server.stop()
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
