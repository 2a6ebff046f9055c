"""A handler's declaration: what it takes is what is let through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.endpoint import RequestContext
from orchestrator.api.openapi.examples import IDS
from orchestrator.api.operation import declared, operation
from orchestrator.schemas import Alive
from tests.api.test_support import calling


@pytest.mark.parametrize("path", [f"/v1/jobs/{IDS['job']}", "/v1/accounts/main", "/v1/signing-key"])
async def test_a_call_without_parameters_refuses_them(tmp_path: Path, path: str) -> None:
    async with calling(tmp_path) as api:
        (fault,) = (await api.get(f"{path}?colour=red", 422))["errors"]
        assert (fault["pointer"], fault["code"]) == ("/colour", "extra_forbidden")


async def test_a_probe_takes_whatever_a_load_balancer_adds(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            await api.call("GET", f"{path}?_=1", 200)


def test_a_declaration_goes_with_the_handler_it_was_made_for() -> None:
    class Kept:
        @operation("Keep", answers={200: Alive})
        async def keep(self, call: RequestContext) -> Any:
            """What it is about,
            in two lines."""
            return self

    known = declared(Kept().keep)
    assert known is not None
    assert (known.summary, known.about) == ("Keep", "What it is about, in two lines.")
