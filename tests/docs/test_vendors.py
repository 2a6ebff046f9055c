"""The vendors page agrees with the tables of each dialect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.settings import load
from orchestrator.vendors.contract import Lookup, Vendor
from orchestrator.vendors.order import Input
from orchestrator.vendors.registry import bind_vendor
from orchestrator.vendors.registry import load as vendors
from tests.harness.documents import Block, chosen, rows, sections

PAGE = "docs/vendors.md"
SECTIONS = sections(PAGE)
#: The sections about one dialect: those with facts. A heading begins with the vendor's name.
DIALECTS = {heading: text for heading, text in SECTIONS.items() if "| fact |" in text}
ACCOUNTS = {
    heading: max(
        (block for block in chosen("toml", page=PAGE) if block.code in text),
        key=lambda block: len(block.code),
    )
    for heading, text in DIALECTS.items()
}
LOOKUPS = {Lookup.BY_EXTERNAL_ID: "yes, by external id", Lookup.NONE: "no"}
WORDS = list(Input.model_fields)


def bound(block: Block, tmp_path: Path) -> Vendor:
    """Return the vendor of the account in a block, as the service binds it."""
    file = tmp_path / "orchestrator.toml"
    file.write_text(block.code)
    [account] = load(file).accounts.values()
    return bind_vendor(account, SystemClock())


def code(word: str) -> str:
    return f"`{word}`"


def facts(vendor: Vendor) -> list[list[str]]:
    options = [
        code(name) + (" = " + " or ".join(map(code, words)) if words else "")
        for name, words in vendor.options.items()
    ]
    return [
        [
            "default `base_url`",
            code(vendor.default_base_url) if vendor.default_base_url else "none",
        ],
        ["options", "; ".join(options) or "none"],
        ["pushes", f"yes, to {code(vendor.callback_path)}" if vendor.pushes else "no"],
        ["external id", code(vendor.external_id_path) if vendor.external_id_path else "none"],
        ["pushes carry the submitted task's id", "yes" if vendor.push_id_is_ours else "not always"],
        ["one order may run as several tasks", "yes" if vendor.runs_several_tasks else "no"],
        ["jobs per status query", str(vendor.batch)],
        ["lookup after a lost answer", LOOKUPS[vendor.lookup]],
    ]


def carried(vendor: Vendor) -> list[list[str]]:
    """Return required, optional and mutually exclusive fields of each capability; known models."""
    found = []
    for capability, form in vendor.forms.items():
        needed = {name for choice in form.required for name in choice.split("|")}
        groups = [
            [[name for name in choice.split("|") if name in form.fields] for choice in group]
            for group in form.exclusive
        ]
        there = [[names for names in group if names] for group in groups]
        only = [
            ", ".join(" or ".join(map(code, names)) for names in group)
            for group in there
            if len(group) > 1
        ]
        found.append([
            code(capability),
            ", ".join(" or ".join(map(code, choice.split("|"))) for choice in form.required),
            ", ".join(code(name) for name in WORDS if name in form.fields and name not in needed),
            "; ".join(only) or "-",
            ", ".join(map(code, vendor.models[capability])),
        ])  # fmt: skip
    return found


@pytest.fixture(params=sorted(DIALECTS))
def heading(request: pytest.FixtureRequest) -> str:
    """Each section with facts."""
    name: str = request.param
    return name


def test_the_facts_and_fields_of_each_dialect_are_right(heading: str, tmp_path: Path) -> None:
    vendor = bound(ACCOUNTS[heading], tmp_path)
    assert heading.split(",")[0] == vendor.name
    shown = rows(DIALECTS[heading])
    assert shown[: len(facts(vendor))] == facts(vendor)
    assert shown[len(facts(vendor)) :] in ([], carried(vendor))


def test_every_vendor_is_listed_and_every_option_has_an_example(tmp_path: Path) -> None:
    names = {name for row in rows(SECTIONS["Vendors"]) for name in re.findall(r"\[(\w+)\]", row[0])}
    assert names == set(vendors())
    shown = {
        (vendor.name, option) for vendor in _examples(tmp_path) for option in vendor.account.options
    }
    assert shown == {(name, option) for name, kind in vendors().items() for option in kind.options}


def _examples(tmp_path: Path) -> list[Vendor]:
    return [bound(block, tmp_path) for block in ACCOUNTS.values()]
