"""Texts of others within the markup of a service: cut, escaped, fitted into a limit."""

from __future__ import annotations

import re
from collections.abc import Sequence


def cut(text: str, cap: int) -> str:
    """Return a text of at most `cap` characters. Cut before you escape: no escape is cut in two."""
    return text if len(text) <= cap else text[: cap - 1] + "…"


#: Percent-encoded in an address within markup. They are not needed in one.
_ENCODED = {ord(char): f"%{ord(char):02X}" for char in "\"'()<>[]\\^`{|}*"}


def markup_url(url: str) -> str:
    """Return a web address without characters that end a link, or mean something, in markup."""
    return url.translate(_ENCODED)


#: Characters of Markdown, mentions and HTML. An underscore within a word, as in an id, is none.
_MARKDOWN = re.compile(r"[#*<>\[\]`~@&\\]|(?<!\w)_|_(?!\w)")


def full_width(text: str) -> str:
    """Return a text without a character of Markdown, for a service whose Markdown has no escapes.

    They are replaced by their full-width forms, which look alike.
    """
    return _MARKDOWN.sub(lambda found: chr(ord(found[0]) + 0xFEE0), text)


def fitting(lines: Sequence[str], cap: int) -> str:
    """Return as many whole lines as fit into `cap` bytes of UTF-8, the first ones first."""
    kept, room = list[str](), cap + 1
    for line in lines:
        if (size := len(line.encode()) + 1) <= room:
            kept.append(line)
            room -= size
    return "\n".join(kept)
