"""The page about the simulator lists everything that it can do, and its blocks run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from starlette.routing import Mount, Route

from orchestrator.simulator import Faults
from orchestrator.simulator.control import Control
from orchestrator.simulator.subscriber import Misbehaviour
from tests.docs.test_quickstart import pasted, ports
from tests.harness.documents import chosen, coded, rows, sections
from tests.harness.fork_server import command as forked
from tests.harness.shells import shell

PAGE = "docs/simulator.md"
SECTIONS = sections(PAGE)
OPERATIONS = ("submit", "query", "push")


def listed(heading: str) -> list[list[str]]:
    return rows(SECTIONS[heading])


def printed(*options: str) -> str:
    command = forked("orchestrator.simulator", *options)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Any]]:
    """What a simulator with a subscriber prints when it is ready."""
    command = forked("orchestrator.simulator", "--port", "0", "--subscriber-port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.terminate()


def test_the_page_lists_every_field_of_the_faults_model_and_its_default() -> None:
    measures = {coded(row[0])[0]: json.loads(coded(row[1])[0]) for row in listed("Measures")}
    faults = [coded(row[0])[0] for row in listed("Faults")]
    assert sorted([*faults, *measures]) == sorted(field.name for field in fields(Faults))
    defaults = Faults().to_json()
    assert measures == {name: defaults[name] for name in measures}
    assert all(defaults[name] == 0 for name in faults)


def test_the_page_lists_the_operations_that_each_fault_can_affect(started: dict[str, Any]) -> None:
    for row in listed("Faults"):
        shown = row[1].split(", ")
        for operation in OPERATIONS:
            body = {"vendor": "kling", "operation": operation, "fault": coded(row[0])[0]}
            response = httpx.post(f"{started['control']}/inject", json=body, verify=False)
            assert response.is_success == (operation in shown), body


def test_the_page_lists_every_option_of_the_command() -> None:
    usage = printed("--help").partition("\n\n")[0]
    options = set(re.findall(r"--[a-z-]+", usage))
    assert {coded(row[0])[0] for row in listed("Start it") if row[0].startswith("`--")} == options


def test_the_page_lists_every_vendor_and_account(started: dict[str, Any]) -> None:
    table = [row for row in listed("Start it") if row[0].startswith("`/")]
    assert [coded(row[0])[0] for row in table] == [f"/{vendor}" for vendor in started["vendors"]]
    accounts = re.findall(r"^\[accounts\.(\w+)\]", printed("--accounts"), re.MULTILINE)
    assert [name for row in table for name in coded(row[1])] == accounts


def test_the_page_lists_every_control_call() -> None:
    unused: Any = None
    control = Control(unused).mount()
    assert isinstance(control, Mount)
    calls = {
        f"{method} /_control{route.path}"
        for route in control.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    names = [coded(row[0])[0] for row in listed("Control API")]
    assert {name for name in names if "/_control/" in name} == calls


def test_every_field_of_the_report_on_the_page_is_in_the_report(started: dict[str, Any]) -> None:
    report = httpx.get(f"{started['control']}/report", verify=False).json()
    for row in listed("Control API"):
        name, _, inner = coded(row[0])[0].partition(".")
        if "/_control/" not in name:
            value = report[name.removesuffix("[]")]
            assert not inner or isinstance(value, list) or inner in value


def test_the_page_lists_every_misbehaviour_of_the_subscriber(started: dict[str, Any]) -> None:
    shown = [coded(row[0])[0] for row in listed("A subscriber that misbehaves")]
    assert sorted(shown) == sorted(get_args(Misbehaviour))
    for how in shown:
        response = httpx.post(f"{started['control']}/misbehave", json={"how": how}, verify=False)
        assert response.is_success, how


@pytest.mark.long
async def test_the_blocks_of_the_page_run_after_the_set_up_of_the_quickstart(
    tmp_path: Path,
) -> None:
    setup, *_, clean_up = chosen("sh", "in order", "docs/quickstart.md")
    swaps, settings = ports()
    report, faults, one_shot, failed = chosen("sh", "with a simulator", PAGE)
    async with shell(tmp_path, swaps, settings) as terminal:
        await pasted(terminal, [setup])
        assert '"renders"' in await terminal.paste(report.code)
        assert '"drop_push"' in await terminal.paste(faults.code)
        assert "Succeeded" in await terminal.paste(one_shot.code)
        assert "no violation, no double render" in await terminal.paste(failed.code)
        await terminal.paste(clean_up.code.replace("$HOOK", ""))
