"""What the documentation lists is all there is: settings, commands, calls, fields, codes, events, and what follows."""

from __future__ import annotations

import inspect
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from orchestrator import client, schemas
from orchestrator.api.problems import CODES
from orchestrator.api.requests import Submission
from orchestrator.cli import app
from orchestrator.client import Client
from orchestrator.client.sync_async import Resource
from orchestrator.events.destinations import ResponseClass, classify
from orchestrator.foundation.clock import STANDARD_SCHEDULE
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import AccountSettings, PollSettings, Settings, load
from orchestrator.foundation.states import EventType, JobState
from orchestrator.vendors.order import Input
from tests.harness.documents import PAGES, ROOT, Page, coded, rows, sections
from tests.harness.openapi_contract import contract

API = sections("docs/api.md")


def first(table: str) -> list[str]:
    """Return the first word in code of every row."""
    return [coded(row[0])[0] for row in rows(table)]


# -- settings


def default(value: Any) -> str:
    """Return a default as the page writes it: as JSON, or none."""
    if isinstance(value, BaseModel) or value in (None, "", [], {}):
        return "none"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`"


def told(fields: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Return every setting of a model with its default."""
    found = {}
    for name, one in fields.model_fields.items():
        value = one.get_default(call_default_factory=True)
        plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        found[f"{prefix}{name}"] = "required" if one.is_required() else default(plain)
    return found


def test_the_configuration_page_names_every_setting_with_its_default() -> None:
    listed = {
        coded(row[0])[0]: row[1] for row in rows((ROOT / "docs/configuration.md").read_text())
    }
    expected = (
        told(Settings)
        | told(AccountSettings, "accounts.X.")
        | told(PollSettings, "accounts.X.poll.")
    )
    assert listed == expected


def test_the_error_that_the_configuration_page_shows_is_the_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    file = tmp_path / "orchestrator.toml"
    file.write_text('[accounts.main]\nvendor = "kling"\nsignatur = "none"\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert f"error: {caught.value}".replace(str(file), "orchestrator.toml") in page


# -- what subscribers are told


def test_the_receiving_page_lists_every_event_the_schedule_and_what_answers_mean() -> None:
    page = sections("docs/receiving.md")
    assert set(first(page["Which events there are"])) == set(EventType)
    again = rows(page["When it is sent again"])
    schedule = [[str(number), f"{wait:g}"] for number, wait in enumerate(STANDARD_SCHEDULE, 1)]
    assert again[: len(schedule)] == schedule
    means = [(re.findall(r"\b\d{3}\b", row[0]), row[1]) for row in again[len(schedule) :]]
    begin = {
        ResponseClass.LATER: "later",
        ResponseClass.SHORTLY: "looks misconfigured",
        ResponseClass.GONE: "gone",
    }
    for status, meaning in ((int(status), meaning) for codes, meaning in means for status in codes):
        assert meaning.startswith(begin[classify(status)]), status
    assert (classify(301), classify(500)) == (ResponseClass.SHORTLY, ResponseClass.LATER)


# -- the API


def test_the_api_page_lists_every_call() -> None:
    paths = contract().said["paths"]
    calls = {
        f"{method.upper()} {path}"
        for path, item in paths.items()
        for method in item
        if method != "parameters"
    }
    listed = first(API["Calls"])
    assert len(listed) == len(set(listed))
    assert set(listed) == {
        call for call in calls if "/callbacks/" not in call and not _is_beside(call)
    }


def _is_beside(call: str) -> bool:
    """True for pages that others lead to."""
    return call.startswith(("GET /errors/", "GET /docs/"))


def test_the_api_page_lists_every_field_state_and_code() -> None:
    assert set(first(API["Submitting"])) == set(Submission.model_fields) | set(JobState)
    assert set(first(API["The input"])) == set(Input.model_fields)
    codes = {coded(row[0])[0]: row[1] for row in rows(API["Errors"])}
    problems = {code: str(one.status) for code, one in CODES.items()}
    assert {code: codes.pop(code, "") for code in problems} == problems
    described = schemas.JobError.model_fields["code"].description or ""
    assert set(re.findall(r"`(\w+)`", described)) <= set(codes)


# -- the client


def test_the_client_page_lists_every_call_and_every_error() -> None:
    page = sections("docs/client.md")
    listed = {
        word.removeprefix("client."): row[1]
        for row in rows(page["Everything else"])
        for word in coded(row[0])
    }
    with Client("http://127.0.0.1:1") as one:
        groups = {
            name: _public(value) for name, value in vars(one).items() if isinstance(value, Resource)
        }
        assert set(listed) == set(groups) | (_public(one) - {"close", "server"})
        assert {name: set(coded(listed[name])) for name in groups} == groups
    raised = {
        name
        for name, kind in vars(client).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    above = {"OrchestratorError", "ClientError", "ApiError"}
    assert set(first(page["What comes back, and what is raised"])) == raised - above


def _public(thing: object) -> set[str]:
    return {
        name for name in dir(type(thing)) if not name.startswith("_") and name not in vars(thing)
    }


# -- the command line


@cache
def commands() -> dict[str, Any]:
    """Return every command of the command line by its words."""
    return dict(_below(typer.main.get_command(app), ""))


def _below(group: Any, before: str) -> list[tuple[str, Any]]:
    if not hasattr(group, "commands"):
        return [(before, group)]
    return [
        found
        for name, one in group.commands.items()
        for found in _below(one, f"{before} {name}".strip())
    ]


def test_the_command_page_lists_every_command_with_an_example_that_it_understands() -> None:
    listed = [
        row
        for row in rows((ROOT / "docs/cli.md").read_text())
        if row[0].startswith("`orchestrator ")
    ]
    assert sorted(coded(row[0])[0].removeprefix("orchestrator ") for row in listed) == sorted(
        commands()
    )
    for name, what, example in listed:
        assert what, name
        words = coded(name)[0]
        said = next(
            part
            for part in re.split(r"\\\||\$\(|\)", coded(example)[0])
            if part.strip().startswith(words)
        )
        arguments = shlex.split(said.strip().removesuffix('"'))[len(words.split()) :]
        commands()[words.removeprefix("orchestrator ")].make_context(
            words, arguments, resilient_parsing=False
        )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_command_that_does_not_exist(path: Path) -> None:
    """Where it is written as one: in a block of the shell, or in backticks."""
    page = Page(path)
    code = [one.code for one in page.blocks() if one.language == "sh"] + re.findall(
        r"`(orchestrator [^`]+)`", page.prose
    )
    plain = [re.sub(r"<<'END'.*?^END$", "", one, flags=re.DOTALL | re.MULTILINE) for one in code]
    groups = {name.split()[0] for name in commands() if " " in name}
    for said in (
        found
        for one in plain
        for found in re.findall(r"(?<![\w/.-])orchestrator ([a-z][a-z-]*)(?: ([a-z-]+))?", one)
    ):
        name, below = said
        assert (f"{name} {below}" if name in groups and below else name) in {
            *commands(),
            *groups,
        }, said
