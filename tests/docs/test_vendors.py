"""What the documentation says of each vendor is what its tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.settings import load
from orchestrator.vendors.contract import Lookup, Vendor
from orchestrator.vendors.order import Input
from orchestrator.vendors.registry import accounts, bind_vendor
from orchestrator.vendors.registry import load as vendors
from tests.harness.documents import Block, chosen, rows, sections

PAGE = "docs/vendors.md"
SECTIONS = sections(PAGE)
#: The sections that tell of one way to speak to a vendor: those with facts. A heading begins with the vendor's name.
TOLD = {heading: text for heading, text in SECTIONS.items() if "| fact |" in text}
ACCOUNTS = {
    heading: max(
        (one for one in chosen("toml", page=PAGE) if one.code in text),
        key=lambda one: len(one.code),
    )
    for heading, text in TOLD.items()
}
LOOKUPS = {Lookup.BY_EXTERNAL_ID: "yes, by external id", Lookup.NONE: "no"}
WORDS = list(Input.model_fields)


def spoken(block: Block, tmp_path: Path) -> Vendor:
    """Return the vendor of the account in a block, as the service would make it."""
    file = tmp_path / "orchestrator.toml"
    file.write_text(block.code)
    [account] = accounts(load(file)).values()
    return bind_vendor(account, SystemClock())


def code(word: str) -> str:
    return f"`{word}`"


def facts(who: Vendor) -> list[list[str]]:
    options = [
        code(name) + (" = " + " or ".join(map(code, words)) if words else "")
        for name, words in who.options.items()
    ]
    return [
        ["default `base_url`", code(who.default_base_url) if who.default_base_url else "none"],
        ["options", "; ".join(options) or "none"],
        ["pushes", f"yes, to {code(who.callback_path)}" if who.pushes else "no"],
        ["external id", code(who.external_id_path) if who.external_id_path else "none"],
        [
            "a push carries the id that the submission gave",
            "yes" if who.push_id_is_ours else "not always",
        ],
        ["one order may run several times", "yes" if who.siblings else "no"],
        ["jobs in one question", str(who.batch)],
        ["can be asked after a lost answer", LOOKUPS[who.lookup]],
    ]


def carried(who: Vendor) -> list[list[str]]:
    """Return what each form needs, takes, and takes one of."""
    found = []
    for capability, form in who.forms.items():
        needed = {name for either in form.required for name in either.split("|")}
        groups = [
            [[name for name in one.split("|") if name in form.fields] for one in group]
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
            ", ".join(" or ".join(map(code, either.split("|"))) for either in form.required),
            ", ".join(code(name) for name in WORDS if name in form.fields and name not in needed),
            "; ".join(only) or "-",
        ])  # fmt: skip
    return found


@pytest.fixture(params=sorted(TOLD))
def heading(request: pytest.FixtureRequest) -> str:
    """Each section that tells facts."""
    name: str = request.param
    return name


def test_a_vendors_facts_and_forms_are_what_the_page_says(heading: str, tmp_path: Path) -> None:
    who = spoken(ACCOUNTS[heading], tmp_path)
    assert heading.split(",")[0] == who.name
    told = rows(TOLD[heading])
    assert told[: len(facts(who))] == facts(who)
    assert told[len(facts(who)) :] in ([], carried(who))


def test_every_vendor_is_told_of_and_every_option_has_an_example(tmp_path: Path) -> None:
    names = {name for row in rows(SECTIONS["Vendors"]) for name in re.findall(r"\[(\w+)\]", row[0])}
    assert names == set(vendors())
    shown = {(who.name, option) for who, told in _examples(tmp_path) for option in told}
    assert shown == {(name, option) for name, kind in vendors().items() for option in kind.options}


def _examples(tmp_path: Path) -> list[tuple[Vendor, dict[str, str]]]:
    made = [spoken(block, tmp_path) for block in ACCOUNTS.values()]
    return [(who, dict(who.account.options)) for who in made]
