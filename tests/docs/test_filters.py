"""The page about filters: every example is judged, every operator and limit is on it."""

from __future__ import annotations

import json

import pytest

from orchestrator.events.filter_faults import (
    MAX_BYTES,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_TEXT,
    filter_faults,
)
from orchestrator.events.filters import MAX_ELEMENTS, OPERATORS, compiled
from tests.harness.documents import ROOT, Block, chosen, coded, rows, sections

PAGE = "docs/filters.md"
EXAMPLES = rows(sections(PAGE)["What counts as equal"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda row: row[0])
def test_an_example_is_judged_as_the_page_says(example: list[str]) -> None:
    given, data = (json.loads(coded(cell)[0]) for cell in example[:2])
    wanted = {"data": given}
    assert filter_faults(wanted) == []
    assert compiled(json.dumps(wanted)).matches({"type": "job.failed", "data": data}) is (
        example[2] == "yes"
    )


@pytest.mark.parametrize("block", chosen("json", "a filter"), ids=str)
def test_a_filter_on_a_page_is_valid(block: Block) -> None:
    assert filter_faults(json.loads(block.code)) == []


def test_the_page_lists_every_operator_and_limit() -> None:
    listed = [name for row in rows(sections(PAGE)["The language"]) for name in coded(row[0])]
    assert sorted(listed) == sorted(OPERATORS)
    limits = " ".join(sections(PAGE)["Limits"].split())
    for text in (f"{MAX_BYTES // 1024} KiB", f"{MAX_DEPTH} levels", f"{MAX_CONDITIONS} conditions",
                 f"texts of {MAX_TEXT}"):  # fmt: skip
        assert text in limits
    assert f"first {MAX_ELEMENTS} elements" in (ROOT / PAGE).read_text()
