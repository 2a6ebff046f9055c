"""The documentation as data: pages, their headings and links, and every fenced block with how it is to be run.

A block is classified by its language and, for code, by a comment right above it: `<!-- runs: how -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    sorted([ROOT / "README.md", ROOT / "deploy/README.md", *(ROOT / "docs").glob("*.md")])
)

_FENCE = re.compile(r"( *)(`{3,})(\S*)\n(.*?)\n\1\2 *\n", re.DOTALL)
_HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_TAIL = re.compile(r"<!-- (\w+): (.+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block. `how` is what the comment above it says: `runs: in order` or `is: Job`, as two words."""

    page: str
    line: int
    language: str
    code: str
    verb: str = ""
    how: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One page."""

    path: Path

    @property
    def name(self) -> str:
        """Where it is, from the root of the project."""
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """All of it without its blocks."""
        return _FENCE.sub("\n", self.text + "\n")

    def anchors(self) -> set[str]:
        """What a link may name after `#`, as GitHub makes it of headings."""
        return {anchor(found[2]) for found in _HEADING.finditer(self.prose)}

    def links(self) -> list[str]:
        """Where its links lead."""
        return [found[1] for found in _LINK.finditer(self.prose)]

    def blocks(self) -> Iterator[Block]:
        """Its blocks, in order."""
        text = self.text + "\n"
        for found in _FENCE.finditer(text):
            mark = _TAIL.search(text[max(0, found.start() - 200) : found.start()])
            verb, how = (mark[1], mark[2]) if mark else ("", "")
            line = text.count("\n", 0, found.start()) + 1
            yield Block(self.name, line, found[3], found[4], verb, how)


def anchor(heading: str) -> str:
    """Return the anchor of a heading: lower case, words joined by hyphens, punctuation left out."""
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def blocks() -> tuple[Block, ...]:
    """Return every block of every page."""
    return tuple(block for path in PAGES for block in Page(path).blocks())


def chosen(language: str, how: str = "", page: str = "") -> list[Block]:
    """Return the blocks of a language, of one way to run them, of one page."""
    return [
        one
        for one in blocks()
        if one.language == language
        and (not how or one.how == how)
        and (not page or one.page == page)
    ]


def sections(page: str) -> dict[str, str]:
    """Return what stands right below each heading of a page, up to the next one of any level."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = re.split(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text, heads and rules left out."""
    found: list[list[str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("|") or set(line) <= set("|-: "):
            continue
        if (
            number + 1 < len(lines)
            and lines[number + 1].startswith("|")
            and set(lines[number + 1]) <= set("|-: ")
        ):
            continue
        cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
        found.append([cell.strip() for cell in cells])
    return found


def coded(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)
