"""The page of destinations has a row for every kind, with what it takes.

`python -m tests.docs.test_destinations` prints the rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.events.destinations import Destination, Option, load
from orchestrator.foundation.extras import EXTRAS
from tests.harness.documents import rows, sections

FAMILIES = ("Your own endpoints", "People", "Brokers")


def row(kind: Destination) -> list[str]:
    """Return the cells of a kind."""
    extra = f"`{kind.extra}`" if kind.extra else "none"
    return [
        f"`{kind.kind}`", f"`{kind.example}`", named(kind.options), named(kind.credentials), extra
    ]  # fmt: skip


def named(options: Mapping[str, Option]) -> str:
    """Return the names of options; those that are required are marked."""
    names = (f"`{name}`" + "*" * option.required for name, option in options.items())
    return ", ".join(names) or "none"


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def test_every_kind_has_its_row_in_a_family() -> None:
    page = sections("docs/destinations.md")
    listed = [line(cells) for family in FAMILIES for cells in rows(page[family])]
    expected = [line(row(kind)) for kind in load().values()]
    missing = "\n".join(sorted({*expected} - {*listed}))
    assert not missing, f"docs/destinations.md lacks rows (replace those of the kinds):\n{missing}"
    assert sorted(listed) == sorted(expected)


def test_every_extra_of_a_kind_is_known() -> None:
    assert {kind.extra for kind in load().values()} - {""} <= set(EXTRAS)


if __name__ == "__main__":
    print(*(line(row(kind)) for _, kind in sorted(load().items())), sep="\n")
