"""Texts of others within the markup of a service: cut, escaped, fitted into a limit."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence


def cut(text: str, cap: int) -> str:
    """Return a text of at most `cap` characters. Cut before you escape: no escape is cut in two."""
    return text if len(text) <= cap else text[: cap - 1] + "…"


#: Scheme and host of a web address, and the rest.
_WEB = re.compile(r"([a-z]+://[^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)
#: A percent sign that encodes nothing.
_LONE = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: No address has these: https://www.rfc-editor.org/rfc/rfc3986#appendix-A.
_INVALID = {ord(char): f"%{ord(char):02X}" for char in '"<>[]\\^`{|}'}
#: And these mean something in the markup of a service.
_MEANINGFUL = _INVALID | {ord(char): f"%{ord(char):02X}" for char in "'()*@"}

#: A host as a public name has it. Some services refuse a message for a host with an underscore.
_PUBLIC = re.compile(r"https?://(?:[a-z0-9-]{1,63}\.)+[a-z]{2,63}(?::[0-9]+)?(?:[/?#]|$)", re.I)


def has_public_name(url: str) -> bool:
    """Return whether the host of a web address is a well-formed public name."""
    return _PUBLIC.match(url) is not None


def valid_url(url: str) -> str:
    """Return a web address with the characters percent-encoded that no address has.

    The host does not change.
    """
    return _encoded(url, _INVALID)


def markup_url(url: str) -> str:
    """Return a web address without characters that end a link, or mean something, in markup."""
    return _encoded(url, _MEANINGFUL)


def _encoded(url: str, table: Mapping[int, str]) -> str:
    if (found := _WEB.fullmatch(url)) is None:
        return ""
    path, mark, fragment = found[2].translate(table).partition("#")
    return found[1] + _LONE.sub("%25", path + mark + fragment.replace("#", "%23"))


#: The full-width forms of ASCII.
_FULL_WIDTH = {ord(char): ord(char) + 0xFEE0 for char in string.punctuation}
#: Characters of Markdown, mentions and HTML, and what begins a list or underlines a heading. An
#: underscore within a word, as in an id, is none.
_MARKDOWN = re.compile(r"[#*<>\[\]`~@&\\]|(?<![^\W_])_+|_+(?![^\W_])|^(?:[-+=]+|[0-9]+[.)])(?!\S)")
#: Those that are emphasis or code.
_EMPHASIS = re.compile(r"[*`~]|(?<![^\W_])_+|_+(?![^\W_])")


def full_width(text: str) -> str:
    """Return a text without a character of Markdown, for a service whose Markdown has no escapes.

    They are replaced by their full-width forms, which look alike.
    """
    return _MARKDOWN.sub(lambda found: found[0].translate(_FULL_WIDTH), text)


def plain(text: str) -> str:
    """Return a text without emphasis and code, for a service that escapes all but these."""
    return _EMPHASIS.sub(lambda found: found[0].translate(_FULL_WIDTH), text)


def fitting(lines: Sequence[str], cap: int) -> str:
    """Return as many whole lines as fit into `cap` bytes of UTF-8, the first ones first."""
    kept, room = list[str](), cap + 1
    for line in lines:
        if (size := len(line.encode()) + 1) <= room:
            kept.append(line)
            room -= size
    return "\n".join(kept)
