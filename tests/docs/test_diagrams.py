"""The diagrams and figures of the page about the inner workings agree with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa

from orchestrator.database.tables import metadata
from orchestrator.engine import deliver_scheduler, poll, submit
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.settings.delivery import Delivery
from orchestrator.foundation.states import FINAL, RANK, JobState, may_move
from tests.harness.documents import ROOT, chosen, coded, rows, sections
from tests.harness.engine import LEASE

LIVE = frozenset(JobState) - FINAL

PAGE = "docs/how-it-works.md"
#: The diagram's types of columns.
TYPES = {"text", "int", "float", "bool", "json", "time", "blob"}


def diagram(how: str) -> str:
    [block] = chosen("mermaid", how, PAGE)
    return block.code


# -- job states


def drawn() -> Iterator[tuple[str, str]]:
    """Yield each transition of the state diagram. `live` stands for each live state."""
    for old, new in re.findall(r"^ *(\S+) --> (\w+|\[\*\])", diagram("job states"), re.MULTILINE):
        if "[*]" in (old, new):
            continue
        yield from ((state, new) for state in (sorted(LIVE) if old == "live" else [old]))


def test_the_state_diagram_shows_every_state_and_transition() -> None:
    allowed = {(old, new) for old in JobState for new in JobState if may_move(old, new)}
    #: A job that expired cannot be canceled, and a request that did not leave returns to the queue.
    expected = allowed - {(JobState.EXPIRED, JobState.CANCELED)}
    expected |= {(JobState.SUBMITTING, JobState.QUEUED)}
    assert sorted(drawn()) == sorted(expected)


def test_the_state_diagram_begins_in_queued_and_groups_the_live_states() -> None:
    text = diagram("job states")
    live = text[text.index("{") : text.index("}")]
    assert "[*] --> queued" in live
    assert set(re.findall(r"\w+", re.sub(r":.*", "", live))) == LIVE


def test_the_table_of_ranks_is_complete() -> None:
    listed = {
        state: int(row[1]) for row in rows(sections(PAGE)["Job states"]) for state in coded(row[0])
    }
    assert listed == RANK


def test_the_table_of_leases_has_the_figures_of_the_stages() -> None:
    shown = [row[1:] for row in rows(sections(PAGE)["Claims, leases and fencing"])]
    timeout = Account.model_fields["answer_timeout"].default
    assert shown == [
        *(
            [
                f"`answer_timeout` of its account: {timeout} s",
                f"{margin:g} s more: {timeout + margin:g} s",
            ]
            for margin in (submit.LEASE_MARGIN, poll.LEASE_MARGIN)
        ),
        [
            f"`delivery.deadline`: {Delivery().deadline} s",
            f"{deliver_scheduler.LEASE_MARGIN:g} s more: {LEASE:g} s",
        ],
    ]


# -- tables


def entities() -> dict[str, dict[str, tuple[str, set[str]]]]:
    """Return type and keys of each column of each table in the diagram."""
    found = {}
    for name, body in re.findall(r"^ *(\w+) \{\n(.*?)^ *\}", diagram("tables"), re.M | re.S):
        found[name] = {
            column: (kind, set(re.findall(r"\w+", keys)))
            for kind, column, keys in re.findall(
                r'^ *(\w+) (\w+)((?:,? ?\b(?:PK|FK|UK)\b)*)(?: "[^"]*")?$', body, re.MULTILINE
            )
        }
        assert len(found[name]) == len(body.splitlines()), f"{name}: a line is no column"
    return found


def test_the_diagram_shows_every_table_and_only_columns_that_exist() -> None:
    shown = entities()
    assert set(shown) == set(metadata.tables)
    for name, columns in shown.items():
        assert set(columns) <= set(metadata.tables[name].columns.keys()), name
        assert {kind for kind, _ in columns.values()} <= TYPES, name


def test_the_diagram_marks_the_keys() -> None:
    for name, columns in entities().items():
        table = metadata.tables[name]
        primary = {column for column, (_, keys) in columns.items() if "PK" in keys}
        assert primary == set(table.primary_key.columns.keys()), name
        unique = {column for column, (_, keys) in columns.items() if "UK" in keys}
        assert unique == {only for (only, *more) in unique_keys(table) if not more}, name


def unique_keys(table: sa.Table) -> list[tuple[str, ...]]:
    """Return the columns of each unique constraint and unique index."""
    constraints = [
        tuple(constraint.columns.keys())
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    ]
    indexes = [tuple(index.columns.keys()) for index in table.indexes if index.unique]
    return sorted({*constraints, *indexes})


def test_the_page_lists_every_unique_key() -> None:
    listed = {
        coded(row[0])[0]: sorted(tuple(key.split(", ")) for key in coded(row[1]))
        for row in rows(sections(PAGE)["Tables"])
    }
    expected = {name: unique_keys(table) for name, table in metadata.tables.items()}
    assert listed == {name: keys for name, keys in expected.items() if keys}


def test_every_reference_is_drawn() -> None:
    lines = re.findall(r"^ *(\w+) \|\|--o\{ (\w+) : (\w+)$", diagram("tables"), re.MULTILINE)
    marked = {
        (name, column)
        for name, columns in entities().items()
        for column, (_, keys) in columns.items()
        if "FK" in keys
    }
    assert {(child, column) for _, child, column in lines} == marked
    assert {parent for parent, _, _ in lines} <= set(metadata.tables)


# -- the sequence


def test_the_sequence_shows_the_four_paths() -> None:
    text = diagram("a sequence")
    shown = re.findall(r"Note over \S+: (.+)", text)
    assert shown == ["Submit", "Push", "Missed push", "Delivery"]
    assert set(shown) <= set(sections(PAGE))
    assert set(re.findall(r"as (\w+)$", text, re.MULTILINE)) == {
        "Caller",
        "api",
        "Database",
        "engine",
        "Vendor",
        "Subscriber",
    }
    assert {"api", "engine"} <= {path.name for path in (ROOT / "orchestrator").iterdir()}
