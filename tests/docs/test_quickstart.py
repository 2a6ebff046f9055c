"""The blocks of README and quickstart run as printed, on other ports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.harness.api_caller import until
from tests.harness.documents import Block, chosen
from tests.harness.processes import free_port
from tests.harness.shells import Shell, shell

pytestmark = pytest.mark.long

READY = '{"status":"ok"'


def ports() -> tuple[dict[str, str], dict[str, str]]:
    """Return replacements for the printed ports, and settings of the service for them."""
    simulator, service, hook = (str(free_port()) for _ in range(3))
    swaps = {"9100": simulator, "127.0.0.1:8080": f"127.0.0.1:{service}", "3000": hook}
    return swaps, {
        "ORCHESTRATOR_PORT": service,
        "ORCHESTRATOR_PUBLIC_URL": f"http://127.0.0.1:{service}",
    }


async def contents(file: Path, *words: str) -> str:
    """Return the text of a file as soon as it contains the words."""

    def complete() -> str | None:
        text = file.read_text() if file.exists() else ""
        return text if all(word in text for word in words) else None

    return await until(complete, f"{file.name} contains {words}")


async def pasted(terminal: Shell, blocks: list[Block]) -> str:
    """Paste blocks and return their output."""
    return "".join([await terminal.paste(block.code) for block in blocks])


async def test_the_blocks_of_the_readme_complete_a_job_and_verify_its_webhook(
    tmp_path: Path,
) -> None:
    begin, start, hook, submit, look, end = chosen("sh", "in order", "README.md")
    swaps, settings = ports()
    async with shell(tmp_path, swaps, settings) as terminal:
        assert READY in await pasted(terminal, [begin, start])
        await pasted(terminal, [hook])
        assert "resolved by push" in await terminal.paste(submit.code)
        log = tmp_path / "first-job/hook.log"
        await contents(log, "verified: job.succeeded https://")
        assert "401" in await terminal.paste(look.code)
        await contents(log, "verified: job.succeeded https://", "refused: Missing required headers")
        history = await terminal.paste(end.code)
        assert all(word in history for word in ("submit", "push", "move", "delivery", "status=204"))


async def test_the_blocks_of_the_quickstart_do_what_the_page_describes(tmp_path: Path) -> None:
    setup, accounts, hook, submit, lost, kill, http, end = chosen(
        "sh", "in order", "docs/quickstart.md"
    )
    swaps, settings = ports()
    async with shell(tmp_path, swaps, settings) as terminal:
        assert READY in await terminal.paste(setup.code)
        assert "cloudsway" in await terminal.paste(accounts.code)
        await terminal.paste(hook.code)
        log = tmp_path / "quickstart/hook.log"
        assert "resolved by push" in await terminal.paste(submit.code)
        await contents(log, "job.submitted", "job.processing", "job.succeeded", "resolved by push")
        assert "no push came, a poll found it (0 pushes" in await terminal.paste(lost.code)
        await contents(log, "resolved by poll")
        assert "succeeded" in await terminal.paste(kill.code)
        assert '"status":"succeeded"' in await terminal.paste(http.code)
        await terminal.paste(end.code)
    assert not (tmp_path / "quickstart").exists()


async def test_the_configuration_for_a_real_vendor_is_valid(tmp_path: Path) -> None:
    [real] = chosen("sh", "on its own", "docs/quickstart.md")
    # With the programs as they are installed: other blocks fork them.
    async with shell(tmp_path, {}, {}, Path(sys.executable).parent) as terminal:
        assert "main" in await terminal.paste(f"cd {tmp_path}\n{real.code}")
