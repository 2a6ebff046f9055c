"""Hooks for schemathesis, which loads this module: use existing ids, and do not wait."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from schemathesis import HookContext

#: Existing ids, by the section of their path.
_EXISTING: dict[str, str] = json.loads(os.environ.get("ORCHESTRATOR_EXISTING", "{}"))
_MAX_WAIT = 60


@schemathesis.hook
def map_path_parameters(
    context: HookContext, path_parameters: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Replace a well-formed id by an existing one, except in DELETE."""
    if path_parameters and context.operation is not None and context.operation.method != "delete":
        known = _EXISTING.get(context.operation.path.split("/")[2], "")
        if known and str(path_parameters.get("id", "")).startswith(known[:4]):
            return {**path_parameters, "id": known}
    return path_parameters


@schemathesis.hook
def map_query(context: HookContext, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Replace a valid `wait` by 0; invalid values stay."""
    wait = str((query or {}).get("wait", ""))
    return {**(query or {}), "wait": "0"} if wait.isdecimal() and int(wait) <= _MAX_WAIT else query
