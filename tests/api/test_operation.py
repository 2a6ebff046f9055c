"""Declarations of operations: undeclared parameters are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.endpoint import RequestContext
from orchestrator.api.operation import declared_operation, operation
from orchestrator.schemas import Alive
from orchestrator.schemas.example_values import IDS
from tests.api.test_support import calling


@pytest.mark.parametrize("path", [f"/v1/jobs/{IDS['job']}", "/v1/accounts/main", "/v1/signing-key"])
async def test_an_operation_without_parameters_refuses_them(tmp_path: Path, path: str) -> None:
    async with calling(tmp_path) as api:
        (fault,) = (await api.get(f"{path}?colour=red", 422))["errors"]
        assert (fault["pointer"], fault["code"]) == ("/colour", "extra_forbidden")


async def test_probes_ignore_unknown_parameters(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            await api.call("GET", f"{path}?_=1", 200)


def test_a_method_keeps_its_declaration() -> None:
    class Kept:
        @operation("Keep", responses={200: Alive})
        async def keep(self, context: RequestContext) -> Any:
            """What it is about,
            in two lines."""
            return self

    known = declared_operation(Kept().keep)
    assert known is not None
    assert (known.summary, known.description) == ("Keep", "What it is about, in two lines.")
