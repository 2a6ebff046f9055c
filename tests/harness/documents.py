"""The documentation as data: pages with headings, links, tables, and fenced blocks.

The comment above a block says how a test runs or checks it: `<!-- runs: how -->` or
`<!-- is: what -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
README, TRANSLATION = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = tuple(
    sorted([README, TRANSLATION, ROOT / "deploy/README.md", *(ROOT / "docs").glob("*.md")])
)

_FENCE = re.compile(r"( *)(`{3,})(\S*)\n(.*?)\n\1\2 *\n", re.DOTALL)
_HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"<!-- (\w+): (.+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block. `verb` and `how` are the two parts of the comment above it."""

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
    """A page of Markdown."""

    path: Path

    @property
    def name(self) -> str:
        """Return the path, relative to the root of the project."""
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        """Return the whole page."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """Return the page without its blocks."""
        return _FENCE.sub("\n", self.text + "\n")

    def headings(self) -> list[tuple[int, str]]:
        """Return level and text of each heading."""
        return [(len(found[1]), found[2]) for found in _HEADING.finditer(self.prose)]

    def anchors(self) -> set[str]:
        """Return the fragments that a link to this page may have."""
        return {anchor(heading) for _, heading in self.headings()}

    def links(self) -> list[str]:
        """Return the target of each link."""
        return [found[1] for found in _LINK.finditer(self.prose)]

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        text = self.text + "\n"
        for found in _FENCE.finditer(text):
            comment = _COMMENT.search(text[max(0, found.start() - 200) : found.start()])
            verb, how = (comment[1], comment[2]) if comment else ("", "")
            line = text.count("\n", 0, found.start()) + 1
            yield Block(self.name, line, found[3], found[4], verb, how)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading: lower case, hyphens, no punctuation."""
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def blocks() -> tuple[Block, ...]:
    """Return every block of every page."""
    return tuple(block for path in PAGES for block in Page(path).blocks())


def chosen(language: str, how: str = "", page: str = "") -> list[Block]:
    """Return the blocks of a language; with `how` or `page`, only those."""
    return [
        block
        for block in blocks()
        if block.language == language
        and (not how or block.how == how)
        and (not page or block.page == page)
    ]


def sections(page: str) -> dict[str, str]:
    """Return the text below each heading of a page, up to the next heading of any level."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = re.split(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables in a text, without header rows and rules."""
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
    """Return the texts in backticks."""
    return re.findall(r"`([^`]+)`", cell)
