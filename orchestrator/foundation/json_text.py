"""Properties of JSON that show in its text, without a walk over hundreds of thousands of values.

Each step is one call into C: a body of 1 MiB takes a few milliseconds, where a walk takes half a
second.
"""

from __future__ import annotations

import re

#: NUL, or half of a surrogate pair, once the pairs are removed.
_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
#: Whatever may exceed the largest float, 1.8e308.
_HUGE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{200}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def is_plain(text: bytes, max_depth: int) -> bool:
    """True only if JSON text nests at most so deep, and all of it is storable and finite.

    The text is valid JSON in UTF-8. False proves nothing: the values have to be looked at.
    """
    # An escaped backslash begins no other escape. Something stays in its place: without it, the
    # halves of a pair around it would meet.
    text = text.replace(rb"\\", b"__")
    if _UNSTORABLE.search(_PAIR.sub(b"", text)):
        return False
    outside_strings = b"".join(text.replace(rb"\"", b"").split(b'"')[::2])
    return not _HUGE.search(outside_strings) and _is_shallow(outside_strings, max_depth)


def _is_shallow(text: bytes, max_depth: int) -> bool:
    """Peel the innermost brackets off, level by level."""
    brackets = text.translate(None, _NO_BRACKETS)
    for _ in range(max_depth):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return not brackets
