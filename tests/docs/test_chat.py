"""The page about messages to people: its table and its examples are those of the code."""

from __future__ import annotations

import json

import pytest

from orchestrator.events import destinations
from orchestrator.events.destinations import HttpDestination
from tests.harness.documents import Block, chosen, coded, rows, sections

KINDS = {
    kind: found
    for kind, found in destinations.load().items()
    if isinstance(found, HttpDestination) and found.links_jobs
}
PAGE = sections("docs/chat.md")
EXAMPLES = [block for block in chosen("json") if block.how == "a subscriber"]


def test_the_table_has_every_kind_with_its_options_and_credentials() -> None:
    def names(values: object) -> str:
        assert isinstance(values, dict)
        shown = (f"`{name}`{' (required)' * one.required}" for name, one in values.items())
        return ", ".join(shown) or "none"

    table = {coded(row[0])[0]: row[2:] for row in rows(PAGE["The kinds"])}
    assert table == {
        kind: [names(dict(found.options)), names(dict(found.credentials))]
        for kind, found in KINDS.items()
    }


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_every_example_is_a_subscriber_of_its_kind(block: Block) -> None:
    given = json.loads(block.code)
    kind = KINDS[given["kind"]]
    kind.check_address(given["url"])
    assert kind.recognizes(given["url"])
    for declared, values in (
        (kind.options, given.get("options", {})),
        (kind.credentials, given.get("credentials", {})),
    ):
        assert [declared[name].fault(value) for name, value in values.items()] == [None] * len(
            values
        )
        assert {name for name, one in declared.items() if one.required} <= values.keys()


def test_every_kind_has_an_example() -> None:
    assert {json.loads(block.code)["kind"] for block in EXAMPLES} == KINDS.keys()
