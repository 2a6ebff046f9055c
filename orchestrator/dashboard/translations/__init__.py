"""The texts of the dashboard: one catalogue for each language, chosen by the browser."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request

LANGUAGES = ("en", "zh")
#: The cookie of a reader who chose.
COOKIE = "language"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The texts of one language, by key."""

    texts: dict[str, str]

    def text(self, key: str, **values: object) -> str:
        """Return a text with its values filled in. Raises `KeyError` for an unknown key."""
        found = self.texts[key]
        return found.format(**values) if values else found

    def has(self, key: str) -> bool:
        """True if there is a text with this key."""
        return key in self.texts


@cache
def catalogue(language: str) -> Catalogue:
    """Return the catalogue of a language."""
    return Catalogue(json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8")))


def language_of(request: Request) -> str:
    """Return the language of the reader: the one they chose, or the browser's first known one."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    preferred = request.headers.get("accept-language", "")[:200]
    weighted = sorted(map(_weight, preferred.split(",")), reverse=True)
    known = (word for weight, word in weighted if weight and word in LANGUAGES)
    return next(known, LANGUAGES[0])


def _weight(item: str) -> tuple[float, str]:
    """Return the weight and the language of an entry of Accept-Language: `zh-CN;q=0.9`."""
    tag, _, parameter = item.partition(";")
    name, _, number = parameter.strip().partition("=")
    try:
        weight = float(number) if name == "q" else 1.0
    except ValueError:
        weight = 0.0
    return weight, tag.strip().lower().partition("-")[0]
