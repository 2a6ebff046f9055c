"""The fields of a subscriber's retry policy in a form: their texts, and their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.dashboard.fields import number, words

_SCHEDULE, _DEADLINE, _FINAL = "retry.schedule", "retry.deadline", "retry.final_statuses"


def retry_values(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the field of the API. Without any text it is null: as the settings say."""
    retry: dict[str, Any] = {}
    if text := given.get(_SCHEDULE):
        retry["schedule"] = words(text)
    if text := given.get(_DEADLINE):
        retry["deadline"] = number(text)
    if text := given.get(_FINAL):
        retry["final_statuses"] = [number(word) for word in words(text)]
    return {"retry": retry or None}


def retry_texts(receiver: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a form that shows a subscriber."""
    retry = receiver.get("retry") or {}
    deadline = retry.get("deadline")
    return {
        _SCHEDULE: ", ".join(map(_wait, retry.get("schedule") or [])),
        _DEADLINE: "" if deadline is None else f"{deadline:g}",
        _FINAL: ", ".join(map(str, retry.get("final_statuses") or [])),
    }


def _wait(wait: str | float) -> str:
    return wait if isinstance(wait, str) else f"{wait:g}"
