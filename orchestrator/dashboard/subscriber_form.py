"""The form of a subscriber: the texts of its fields, and the body they make for the API.

Fields of a kind are named `option.NAME` and `credential.NAME`. What a text may say is judged by the
API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.dashboard.fields import number, pairs, words
from orchestrator.dashboard.filter_fields import filter_texts, filter_values
from orchestrator.dashboard.retry_fields import retry_texts, retry_values

Json = dict[str, Any]

_OPTION, _CREDENTIAL = "option.", "credential."
_NUMBERS = ("max_in_flight", "rate_limit")


def new_body(given: Mapping[str, str]) -> Json:
    """Return the body of a new subscriber from the fields that have a text."""
    body = {name: given[name] for name in ("url", "kind", "description") if name in given}
    return body | filter_values(given) | retry_values(given) | _parsed(given)


def change_body(given: Mapping[str, str], texts: Mapping[str, str]) -> Json:
    """Return the body of a change: `texts` are those that the form showed.

    Only what differs is sent. Without a text, options have their defaults, there is no rate limit
    and no description; addresses and secrets, which are not shown, stay.
    """
    plain = {"url": given["url"]} if "url" in given else {}
    body: Json = plain | {"description": given.get("description", ""), "rate_limit": None}
    body |= {"options": {}, **filter_values(given), **retry_values(given), **_parsed(given)}
    before: Json = {"description": texts.get("description", ""), "rate_limit": None}
    before |= {"options": {}, **filter_values(texts), **retry_values(texts), **_parsed(texts)}
    changed = {name: value for name, value in body.items() if before.get(name, ...) != value}
    return changed | {name: {} for name in ("headers", "credentials") if f"drop.{name}" in given}


def texts_of(receiver: Json, defaults: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a form that shows a subscriber. `defaults` of options have none."""
    options = {
        _OPTION + name: value
        for name, value in receiver["options"].items()
        if defaults.get(name) != value
    }
    rate = receiver["rate_limit"]
    texts = {
        "types": ", ".join(receiver["types"]),
        "description": receiver["description"],
        "max_in_flight": str(receiver["max_in_flight"]),
        "rate_limit": "" if rate is None else f"{rate:g}",
        **options,
        **filter_texts(receiver),
        **retry_texts(receiver),
    }
    return {name: text for name, text in texts.items() if text}


def defaults_of(kind: Json) -> dict[str, str]:
    """Return the defaults of a kind's options."""
    options = kind["options"].items()
    return {name: option["choices"][0] for name, option in options if option["choices"]}


def _parsed(given: Mapping[str, str]) -> Json:
    """Return the fields that are no texts in the API, if they are given."""
    body: Json = {name: number(given[name]) for name in _NUMBERS if name in given}
    if "types" in given:
        body["types"] = words(given["types"])
    if "headers" in given:
        body["headers"] = pairs(given["headers"], ":")
    for field, prefix in (("options", _OPTION), ("credentials", _CREDENTIAL)):
        named = {
            name.removeprefix(prefix): text
            for name, text in given.items()
            if name.startswith(prefix)
        }
        if named:
            body[field] = named
    return body
