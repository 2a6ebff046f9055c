"""The first five minutes, pasted as they are printed; only the ports are others, since tests run side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.api_caller import until
from tests.harness.documents import Block, chosen
from tests.harness.processes import free_port
from tests.harness.shells import Shell, shell

pytestmark = pytest.mark.long

READY = '{"status":"ok"'


def ports() -> tuple[dict[str, str], dict[str, str]]:
    """Return what to write for the printed ports, and the service's settings that go with it."""
    simulator, service, hook = (str(free_port()) for _ in range(3))
    swaps = {"9100": simulator, "127.0.0.1:8080": f"127.0.0.1:{service}", "3000": hook}
    return swaps, {
        "ORCHESTRATOR_PORT": service,
        "ORCHESTRATOR_PUBLIC_URL": f"http://127.0.0.1:{service}",
    }


async def said(file: Path, *words: str) -> str:
    """Return a file once it holds the words: a person takes longer between two blocks than a delivery does."""

    def holds() -> str | None:
        text = file.read_text() if file.exists() else ""
        return text if all(word in text for word in words) else None

    return await until(holds, f"{file.name} says {words}")


async def pasted(it: Shell, blocks: list[Block]) -> str:
    """Paste blocks and return all they printed."""
    return "".join([await it.paste(one.code) for one in blocks])


async def test_the_readme_leads_to_a_first_job_and_a_verified_webhook(tmp_path: Path) -> None:
    begin, start, hook, submit, look, end = chosen("sh", "in order", "README.md")
    swaps, settings = ports()
    async with shell(tmp_path, swaps, settings) as it:
        assert READY in await pasted(it, [begin, start])
        await pasted(it, [hook])
        assert "told by push" in await it.paste(submit.code)
        log = tmp_path / "first-job/hook.log"
        await said(log, "verified: job.succeeded https://")
        assert "401" in await it.paste(look.code)
        await said(log, "verified: job.succeeded https://", "refused: Missing required headers")
        history = await it.paste(end.code)
        assert all(word in history for word in ("submit", "push", "move", "delivery", "status=204"))


async def test_the_quickstart_does_what_it_says(tmp_path: Path) -> None:
    setup, accounts, hook, submit, lost, kill, http, end = chosen(
        "sh", "in order", "docs/quickstart.md"
    )
    swaps, settings = ports()
    async with shell(tmp_path, swaps, settings) as it:
        assert READY in await it.paste(setup.code)
        assert "cloudsway" in await it.paste(accounts.code)
        await it.paste(hook.code)
        log = tmp_path / "quickstart/hook.log"
        assert "told by push" in await it.paste(submit.code)
        await said(log, "job.submitted", "job.processing", "job.succeeded", "told by push")
        assert "no push came, a poll found it (0 pushes" in await it.paste(lost.code)
        await said(log, "told by poll")
        assert "succeeded" in await it.paste(kill.code)
        assert '"status":"succeeded"' in await it.paste(http.code)
        await it.paste(end.code)
    assert not (tmp_path / "quickstart").exists()


async def test_a_configuration_for_a_real_vendor_is_begun_and_checked(tmp_path: Path) -> None:
    [real] = chosen("sh", "on its own", "docs/quickstart.md")
    async with shell(tmp_path, {}, {}) as it:
        assert "main" in await it.paste(f"cd {tmp_path}\n{real.code}")
