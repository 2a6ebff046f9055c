"""Examples that need a service. Shell blocks run in order, one shell per page; Python and
commands run in this process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.simulator.accounts import SIMULATED
from orchestrator.simulator.server import LocalServer
from tests.harness.api_caller import KEY, until
from tests.harness.command_line import isolate, run
from tests.harness.documents import Block, blocks, chosen, coded, rows, sections
from tests.harness.live import Live, live, order
from tests.harness.shells import shell

PAGES = list(
    dict.fromkeys(
        block.page for block in blocks() if block.language == "sh" and block.how == "with a service"
    )
)
#: The output that a block with this text must have.
OUTPUT = {
    "accounts check": "accepted",
    "readyz": '"ok"',
    "orchestrator doctor": "0 problems",
    "If-None-Match": "304",
    "/events/stream": "event: job.",
    "wait=1&type": '"next_cursor"',
    "rotate-secret": "previous_expires_at",
    '"format": "cloudevents"': "whsec_",
    "Idempotency-Key": '"status":"succeeded"',
    "--timeline": "delivery",
    "signature sign --secret": "webhook-signature",
    "/metrics": "orchestrator_jobs_finished_total{",
    "jobs retry --account": "new renders",
    "1d --dry-run": "would be replayed",
    "--missed --dry-run": "would be replayed",
    "--kind slack": "slack",
}

#: Addresses of others on the pages: tests send nothing there.
_FOREIGN = ("https://my.app/hook", "https://my.app/events")


@dataclass(frozen=True)
class Stage:
    """A running service with some history, and the variables that the examples use."""

    it: Live
    environment: dict[str, str]
    #: An address that accepts every request.
    sink: str


async def staged(it: Live, folder: Path, sink: str) -> Stage:
    """Complete and deliver one job, and return its ids as variables."""
    job = await it.api.submit(order("kling", external_task_id="order-990"))
    await it.delivered(job["id"])
    [first, *_] = (await it.api.get(f"/v1/events?job={job['id']}"))["data"][::-1]
    page = await it.api.get("/v1/deliveries")
    made = await it.api.subscribe(it.subscriber.url, "job.failed")
    (folder / "test.db.keys").write_text("kept beside the database\n")
    environment = {
        "ORCHESTRATOR_SERVER": it.url,
        "ORCHESTRATOR_API_KEY": KEY,
        "JOB": job["id"],
        "EVENT": first["id"],
        "SUBSCRIBER": made["id"],
        "DELIVERY": page["data"][0]["id"],
        "SLACK_URL": it.subscriber.slack_url,
        "DATABASE": str(folder / "test.db"),
    }
    return Stage(it, environment, sink)


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A service with every simulated account."""
    isolate(monkeypatch, tmp_path)
    serving = LocalServer(Starlette(routes=[Route("/", _thanks, methods=["POST"])]), 0, "127.0.0.1")
    await serving.start()
    async with live(tmp_path, [name for name, _ in SIMULATED]) as it:
        made = await staged(it, tmp_path, serving.url + "/")
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made
    await serving.stop()


async def _thanks(request: Request) -> Response:
    return Response(status_code=204)


async def test_the_shell_examples_run_on_a_service(stage: Stage, tmp_path: Path) -> None:
    async def paste(page: str) -> None:
        own = tmp_path / Path(page).stem
        own.mkdir()
        async with shell(own, dict.fromkeys(_FOREIGN, stage.sink), stage.environment) as it:
            await it.paste("cd")
            for block in chosen("sh", "with a service", page):
                _check(block, await it.paste(f"set -o pipefail\n{block.code}"))

    await asyncio.gather(*map(paste, PAGES))
    copies = [tmp_path / "operations/backup.db", tmp_path / "operations/backup.db.keys"]
    assert all(copy.stat().st_size > 0 and copy.stat().st_mode & 0o077 == 0 for copy in copies)


def _check(block: Block, printed: str) -> None:
    assert "application/problem+json" not in printed
    assert '"status": 4' not in printed, f"{block}: {printed}"
    for text, output in OUTPUT.items():
        if text in block.code:
            assert output in printed, f"{block}: {printed}"


async def test_the_operations_page_lists_every_metric(stage: Stage) -> None:
    shown = (await stage.it.outside.get(f"{stage.it.url}/metrics")).text
    listed = [coded(row[0])[0] for row in rows(sections("docs/operations.md")["Metrics"])]
    assert sorted(listed) == sorted(re.findall(r"^# HELP (\w+)", shown, re.MULTILINE))


async def test_the_python_examples_run_on_a_service(stage: Stage) -> None:
    for block in chosen("python", "with a service"):
        printed = io.StringIO()

        def program(block: Block = block, printed: io.StringIO = printed) -> None:
            with contextlib.redirect_stdout(printed):
                exec(
                    compile(block.code, str(block), "exec", dont_inherit=True),
                    {"__name__": "__main__"},
                )

        await asyncio.to_thread(program)
        assert printed.getvalue().strip(), f"{block} printed nothing"
    await until(
        lambda: len(stage.it.subscriber.received) > 6, "the jobs of the programs were delivered"
    )


async def test_the_command_examples_run_on_a_service(stage: Stage) -> None:
    for block in chosen("sh", "as commands"):
        for line in block.code.splitlines():
            words = shlex.split(Template(line).substitute(stage.environment))
            ran = await asyncio.to_thread(run, *words[1:])
            assert ran.code == 0, (line, ran.err)
            assert ran.out.strip(), line
            for text, output in OUTPUT.items():
                assert text not in line or output in ran.out + ran.err, (line, ran.out, ran.err)
