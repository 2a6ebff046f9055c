"""The samples as data: every dialect's folder says in `expected.json` which account speaks it and what each file means.

A new vendor needs nothing but a folder: the suites below walk whatever is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.foundation.clock import SystemClock, rfc3339
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.order import Input, Order
from orchestrator.vendors.registry import load
from orchestrator.vendors.report import Report

SAMPLES = Path(__file__).parents[1] / "samples"
VENDORS = load()
FOLDERS = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())
NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


class StoppedClock(SystemClock):
    """A clock that always says `NOW`."""

    def now(self) -> datetime:
        return NOW


@dataclass(frozen=True)
class Case:
    """One sample file, and what is expected of it."""

    folder: str
    file: str
    expected: Any

    @property
    def sample(self) -> Any:
        return json.loads((SAMPLES / self.folder / self.file).read_bytes())

    @property
    def http(self) -> dict[str, Any]:
        """How the file travels: method and path of a request, status of an answer."""
        found: dict[str, Any] = indexed(self.folder)[self.file]["http"]
        return found

    def response(self) -> httpx.Response:
        return httpx.Response(self.http.get("status", 200), json=self.sample)


def indexed(folder: str) -> dict[str, Any]:
    files: dict[str, Any] = json.loads((SAMPLES / folder / "index.json").read_bytes())["files"]
    return files


def expectations(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / folder / "expected.json").read_bytes())
    return found


def cases(section: str, *prefixes: str) -> pytest.MarkDecorator:
    """Parametrize a test with the cases of a section, every folder's."""
    found = [
        pytest.param(Case(folder, file, expected), id=f"{folder}-{file.removesuffix('.json')}")
        for folder in FOLDERS
        for file, expected in expectations(folder)[section].items()
        if file.startswith(prefixes or ("",))
    ]
    return pytest.mark.parametrize("case", found)


def account(folder: str, **changes: Any) -> Account:
    """Return the account that speaks the folder's dialect."""
    settings = {"api_key": "key-1", **expectations(folder)["account"], **changes}
    return Account(name="main", **settings)


def vendor(folder: str, **changes: Any) -> Vendor:
    told = account(folder, **changes)
    return VENDORS[told.vendor](told, StoppedClock())


def order(capability: str, given: dict[str, Any], **changes: Any) -> Order:
    """Return an order as the API would make it of a caller's `input`."""
    plain = Input.model_validate_json(json.dumps(given)).given()
    settings = {"model": "kling-v3", "external_task_id": "job-1", "job_id": "job-1", **changes}
    return Order(capability=Capability(capability), given=plain, **settings)


def told(report: Report) -> dict[str, Any]:
    """Return a report in the words of `expected.json`: what it does not say is left out."""
    fields = ("vendor_task_id", "external_task_id", "progress", "message", "vendor_code")
    said = {name: getattr(report, name) for name in fields if getattr(report, name) is not None}
    if report.updated_at:
        said["updated_at"] = rfc3339(report.updated_at)
    if report.videos:
        said["videos"] = [
            {
                **{
                    name: value
                    for name in ("url", "id", "duration")
                    if (value := getattr(video, name)) is not None
                },
                **({"expires_at": rfc3339(video.expires_at)} if video.expires_at else {}),
            }
            for video in report.videos
        ]
    return {"state": report.state and str(report.state), "word": report.word, **said}
