"""The fields of a subscriber's filter and order in a form: their texts, and their values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.dashboard.fields import json_value


def filter_values(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of the API. Without a text there is no filter, and no order."""
    text = given.get("filter", "")
    return {"filter": json_value(text) if text else None, "ordered": bool(given.get("ordered"))}


def filter_texts(receiver: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a form that shows a subscriber."""
    texts = {"ordered": "yes"} if receiver.get("ordered") else {}
    if receiver.get("filter") is not None:
        texts["filter"] = json.dumps(receiver["filter"], ensure_ascii=False, indent=2)
    return texts
