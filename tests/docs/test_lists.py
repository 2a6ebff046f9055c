"""The lists on the pages are complete: settings, commands, calls, fields, codes, events."""

from __future__ import annotations

import inspect
import json
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
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import Settings, load
from orchestrator.foundation.settings.accounts import Account, Poll
from orchestrator.foundation.settings.dashboard import Dashboard
from orchestrator.foundation.settings.delivery import Delivery
from orchestrator.foundation.settings.email import Email
from orchestrator.foundation.settings.http import Http
from orchestrator.foundation.states import EventType, JobState
from orchestrator.vendors.order import Input
from tests.harness.documents import PAGES, ROOT, Page, coded, rows, sections
from tests.harness.openapi_contract import contract

API = sections("docs/api.md")


def first(table: str) -> list[str]:
    """Return the first code span of every row."""
    return [coded(row[0])[0] for row in rows(table)]


# -- settings


def default(value: Any) -> str:
    """Return a default in the page's form: JSON, or none."""
    if isinstance(value, BaseModel) or value in (None, "", [], {}):
        return "none"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, list):
        return f"`{json.dumps(value)}`"
    if isinstance(value, int):
        return f"`{value:d}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`"


def defaults(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Return every setting of a model with its default."""
    found = {}
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        shown = "required" if field.is_required() else default(plain)
        found[f"{prefix}{field.alias or name}"] = shown
    return found


def test_the_configuration_page_lists_every_setting_with_its_default() -> None:
    listed = {
        coded(row[0])[0]: row[1] for row in rows((ROOT / "docs/configuration.md").read_text())
    }
    expected = (
        defaults(Settings)
        | defaults(Http, "http.")
        | defaults(Dashboard, "dashboard.")
        | defaults(Email, "email.")
        | defaults(Delivery, "delivery.")
        | defaults(Account, "accounts.X.")
        | defaults(Poll, "accounts.X.poll.")
    )
    assert listed == expected


def test_the_configuration_page_shows_the_error_for_an_unknown_setting(tmp_path: Path) -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    file = tmp_path / "orchestrator.toml"
    file.write_text('[accounts.main]\nvendor = "kling"\nsignatur = "none"\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert f"error: {caught.value}".replace(str(file), "orchestrator.toml") in page


# -- events


def test_the_receiving_page_lists_every_event_the_schedule_and_the_effect_of_answers() -> None:
    page = sections("docs/receiving.md")
    assert set(first(page["Event types"])) == set(EventType)
    listed = rows(page["Retry schedule"])
    schedule = [
        [str(number), f"{wait:g}"] for number, wait in enumerate(Delivery().policy.schedule, 1)
    ]
    assert listed[: len(schedule)] == schedule
    effects = [(re.findall(r"\b\d{3}\b", row[0]), row[1]) for row in listed[len(schedule) :]]
    begin = {
        ResponseClass.LATER: "later",
        ResponseClass.SHORTLY: "looks misconfigured",
        ResponseClass.GONE: "gone",
    }
    for status, meaning in (
        (int(status), meaning) for codes, meaning in effects for status in codes
    ):
        assert meaning.startswith(begin[classify(status)]), status
    assert (classify(301), classify(500)) == (ResponseClass.SHORTLY, ResponseClass.LATER)


# -- the API


def test_the_api_page_lists_every_call() -> None:
    paths = contract().document["paths"]
    calls = {
        f"{method.upper()} {path}"
        for path, item in paths.items()
        for method in item
        if method != "parameters"
    }
    listed = first(API["Calls"])
    assert len(listed) == len(set(listed))
    assert set(listed) == {
        call for call in calls if "/callbacks/" not in call and not _is_linked(call)
    }


def _is_linked(call: str) -> bool:
    """True for pages that other pages link to."""
    return call.startswith(("GET /errors/", "GET /docs/"))


def test_the_api_page_lists_every_field_state_and_code() -> None:
    assert set(first(API["Submitting"])) == set(Submission.model_fields) | set(JobState)
    assert set(first(API["The input"])) == set(Input.model_fields)
    codes = {coded(row[0])[0]: row[1] for row in rows(API["Errors"])}
    problems = {code: str(known.status) for code, known in CODES.items()}
    assert {code: codes.pop(code, "") for code in problems} == problems
    described = schemas.JobError.model_fields["code"].description or ""
    assert set(re.findall(r"`(\w+)`", described)) <= set(codes)


# -- the client


def test_the_client_page_lists_every_call_and_every_error() -> None:
    page = sections("docs/client.md")
    listed = {
        word.removeprefix("client."): row[1]
        for row in rows(page["All calls"])
        for word in coded(row[0])
    }
    with Client("http://127.0.0.1:1") as server:
        groups = {
            name: _public(value)
            for name, value in vars(server).items()
            if isinstance(value, Resource)
        }
        assert set(listed) == set(groups) | (_public(server) - {"close", "server"})
        assert {name: set(coded(listed[name])) for name in groups} == groups
    raised = {
        name
        for name, kind in vars(client).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }
    bases = {"OrchestratorError", "ClientError", "ApiError"}
    assert set(first(page["Models and errors"])) == raised - bases


def _public(thing: object) -> set[str]:
    return {
        name for name in dir(type(thing)) if not name.startswith("_") and name not in vars(thing)
    }


# -- the command line


@cache
def commands() -> dict[str, Any]:
    """Return every command by its words."""
    return dict(_below(typer.main.get_command(app), ""))


def _below(group: Any, before: str) -> list[tuple[str, Any]]:
    if not hasattr(group, "commands"):
        return [(before, group)]
    return [
        found
        for name, command in group.commands.items()
        for found in _below(command, f"{before} {name}".strip())
    ]


def test_the_command_page_lists_every_command_with_a_valid_example() -> None:
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
        line = next(
            part
            for part in re.split(r"\\\||\$\(|\)", coded(example)[0])
            if part.strip().startswith(words)
        )
        arguments = shlex.split(line.strip().removesuffix('"'))[len(words.split()) :]
        commands()[words.removeprefix("orchestrator ")].make_context(
            words, arguments, resilient_parsing=False
        )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_command_that_does_not_exist(path: Path) -> None:
    """In shell blocks and in code spans."""
    page = Page(path)
    code = [block.code for block in page.blocks() if block.language == "sh"] + re.findall(
        r"`(orchestrator [^`]+)`", page.prose
    )
    plain = [re.sub(r"<<'END'.*?^END$", "", text, flags=re.DOTALL | re.MULTILINE) for text in code]
    groups = {name.split()[0] for name in commands() if " " in name}
    for name, below in (
        found
        for text in plain
        for found in re.findall(r"(?<![\w/.-])orchestrator ([a-z][a-z-]*)(?: ([a-z-]+))?", text)
    ):
        assert (f"{name} {below}" if name in groups and below else name) in {
            *commands(),
            *groups,
        }, f"{name} {below}"
