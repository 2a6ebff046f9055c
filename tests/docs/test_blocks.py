"""A test runs or checks every block of the documentation, and every link has a target."""

from __future__ import annotations

import json
import os
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import BaseModel

from orchestrator import schemas
from orchestrator.api.requests import Submission
from orchestrator.events.destinations import Message, Target
from orchestrator.events.destinations.webhook import Webhook
from orchestrator.foundation.settings import load
from orchestrator.simulator.accounts import webhook_secret
from tests.failover.patroni import shared_settings
from tests.harness.documents import PAGES, ROOT, Block, Page, anchor, blocks, chosen

#: How blocks of each language are run or checked, and by which test.
KNOWN = {
    "sh": {
        "in order": "docs/test_quickstart.py",
        "on its own": "docs/test_quickstart.py",
        "against a delivery": "docs/test_receivers.py",
        "against a receiver": "docs/test_receivers.py",
        "with a service": "docs/test_service.py",
        "as commands": "docs/test_service.py",
        "with a simulator": "docs/test_simulator.py",
        "an environment": "docs/test_blocks.py",
        "by an administrator": "docs/test_blocks.py",
        "elsewhere": "",
    },
    "python": {
        "as a receiver": "docs/test_receivers.py",
        "against a delivery": "docs/test_receivers.py",
        "with a service": "docs/test_service.py",
        "as a vendor": "docs/test_plugins.py",
        "as a destination": "docs/test_plugins.py",
        "as a consumer": "brokers/test_examples.py",
        "as a publisher": "docs/test_plugins.py",
        "as an application": "docs/test_embedding.py",
    },
    "js": {
        "as a receiver": "docs/test_receivers.py",
        "in a page": "third_party/test_event_stream.py",
    },
    "go": {"as a receiver": "docs/test_receivers.py"},
    "yaml": {"as Patroni": "docs/test_blocks.py"},
    "toml": {"settings": "docs/test_blocks.py", "an account": "docs/test_vendors.py"},
    "json": {
        "Event": "docs/test_blocks.py",
        "Job": "docs/test_blocks.py",
        "a submission": "docs/test_blocks.py",
        "Problem": "docs/test_blocks.py",
        "ShareLink": "docs/test_blocks.py",
        "a CloudEvent": "docs/test_blocks.py",
        "a sample": "docs/test_plugins.py",
        "a subscriber": "docs/test_chat.py",
        "a filter": "docs/test_filters.py",
    },
    "mermaid": dict.fromkeys(("a sequence", "job states", "tables"), "docs/test_diagrams.py"),
    "text": {"": ""},
}
JSON_SHAPES: dict[str, type[BaseModel]] = {
    "Event": schemas.Event,
    "Job": schemas.Job,
    "Problem": schemas.Problem,
    "ShareLink": schemas.ShareLink,
    "a submission": Submission,
}
EACH_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def each(language: str, *how: str) -> pytest.MarkDecorator:
    found = [block for block in chosen(language) if block.how in how]
    return pytest.mark.parametrize("block", found, ids=str)


def test_every_block_is_run_by_some_test() -> None:
    for block in blocks():
        assert block.language in KNOWN, f"{block}: no test runs {block.language!r}"
        how, _, detail = block.how.partition(", ")
        assert how in KNOWN[block.language], f"{block}: no test runs it {block.how!r}"
        runner = ROOT / (detail if how == "elsewhere" else f"tests/{KNOWN[block.language][how]}")
        assert runner.exists(), f"{block}: there is no {runner}"
        if how == "elsewhere":
            assert block.code.split()[-1] in runner.read_text(), (
                f"{block}: {runner.name} does not run it"
            )


@EACH_PAGE
def test_every_link_has_a_target(path: Path) -> None:
    for link in Page(path).links():
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = (path.parent / parts.path).resolve() if parts.path else path
        assert target.exists(), f"{path.name}: {link}"
        if parts.fragment:
            assert parts.fragment in Page(target).anchors(), f"{path.name}: {link}"


@EACH_PAGE
def test_the_readme_links_to_every_page(path: Path) -> None:
    reachable = {
        (ROOT / urlsplit(link).path).resolve() for link in Page(ROOT / "README.md").links()
    }
    assert path in reachable or path == ROOT / "README.md"


@each("toml", "settings", "an account")
def test_every_toml_block_is_a_valid_configuration(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("ORCHESTRATOR_")]:
        monkeypatch.delenv(name)
    (tmp_path / "orchestrator.toml").write_text(block.code)
    load(tmp_path / "orchestrator.toml")


@each("yaml", "as Patroni")
def test_the_patroni_block_is_what_the_failover_suite_runs(block: Block) -> None:
    given = yaml.safe_load(block.code)["bootstrap"]["dcs"]
    runs = shared_settings(synchronous=True)
    for name, value in given.items():
        assert runs[name] == value or value.items() <= runs[name].items()


@each("sh", "an environment")
def test_the_environment_block_sets_the_settings_it_names(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in map(shlex.split, block.code.splitlines()):
        name, _, value = words[1].partition("=")
        monkeypatch.setenv(name, value)
    settings = load()
    assert set(settings.accounts) == {"main", "spare"}
    assert settings.accounts["main"].poll.deadline == 7200


@each("json", *JSON_SHAPES)
def test_a_json_block_has_the_shape_in_its_comment(block: Block) -> None:
    given = json.loads(block.code)
    shape = JSON_SHAPES[block.how]
    shape.model_validate_json(block.code)
    assert set(given) <= set(shape.model_fields)
    if block.how == "Event":
        assert set(given["data"]) == set(schemas.Job.model_fields)
        schemas.Job.model_validate(given["data"])


@each("json", "a CloudEvent")
def test_the_cloudevent_is_what_the_webhook_destination_sends(block: Block) -> None:
    given = json.loads(block.code)
    event = {
        "type": given["type"],
        "timestamp": given["time"],
        "id": given["id"],
        "sequence": int(given["sequence"]),
        "data": given["data"],
    }
    body, at, job = json.dumps(event).encode(), datetime.now(UTC), given["partitionkey"]
    sent = Message(given["id"], given["type"], body, at, job)
    options = {"format": "cloudevents"}
    target = Target("https://my.app/events", [webhook_secret("docs")], options=options)
    request = Webhook().request(target, sent)
    assert json.loads(request.content) == given


@each("sh", "by an administrator")
def test_blocks_for_an_administrator_name_files_that_exist(block: Block) -> None:
    for name in re.findall(r"\bdeploy/[\w./-]+", block.code):
        assert (ROOT / name).exists(), name


def test_anchors_follow_the_rules_of_github() -> None:
    assert anchor("What a receiver must do") == "what-a-receiver-must-do"
    assert anchor("kling, new standard") == "kling-new-standard"
    assert anchor("uniall, callback = extra_body") == "uniall-callback--extra_body"
