"""What schemathesis is told of a service besides its document: which things exist, and not to wait. It loads this."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from schemathesis import HookContext

#: Ids of things that exist, by the section of the path they belong to.
_EXISTING: dict[str, str] = json.loads(os.environ.get("ORCHESTRATOR_EXISTING", "{}"))
_LONGEST = 60


@schemathesis.hook
def map_path_parameters(
    context: HookContext, path_parameters: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Send what could be an id of a kind as one that exists, unless it is to be deleted."""
    if path_parameters and context.operation is not None and context.operation.method != "delete":
        known = _EXISTING.get(context.operation.path.split("/")[2], "")
        if known and str(path_parameters.get("id", "")).startswith(known[:4]):
            return {**path_parameters, "id": known}
    return path_parameters


@schemathesis.hook
def map_query(context: HookContext, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Wait for nothing; what is no time to wait stays what it is."""
    wait = str((query or {}).get("wait", ""))
    return {**(query or {}), "wait": "0"} if wait.isdecimal() and int(wait) <= _LONGEST else query
