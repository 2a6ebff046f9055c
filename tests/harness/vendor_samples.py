"""The vendor samples as data.

Each dialect's folder has an `expected.json`: its account, and the meaning of each file. A new
vendor needs only a folder: the suites walk every folder that is there.
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
from orchestrator.vendors.report import Output, Report

SAMPLES = Path(__file__).parents[1] / "samples"
VENDORS = load()
FOLDERS = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())
NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


class StoppedClock(SystemClock):
    """A clock that stands at `NOW`."""

    def now(self) -> datetime:
        return NOW


@dataclass(frozen=True)
class Case:
    """One sample file and its expected meaning."""

    folder: str
    file: str
    expected: Any

    @property
    def sample(self) -> Any:
        return json.loads((SAMPLES / self.folder / self.file).read_bytes())

    @property
    def http(self) -> dict[str, Any]:
        """How the file is sent: method and path of a request, status of a response."""
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
    """Parametrize a test with the cases of a section, from every folder."""
    found = [
        pytest.param(Case(folder, file, expected), id=f"{folder}-{file.removesuffix('.json')}")
        for folder in FOLDERS
        for file, expected in expectations(folder)[section].items()
        if file.startswith(prefixes or ("",))
    ]
    return pytest.mark.parametrize("case", found)


def account(folder: str, **changes: Any) -> Account:
    """Return the account of the folder's dialect."""
    settings = {"api_key": "key-1", **expectations(folder)["account"], **changes}
    return Account.model_validate(settings).named("main")


def vendor(folder: str, **changes: Any) -> Vendor:
    bound = account(folder, **changes)
    return VENDORS[bound.vendor](bound, StoppedClock())


def order(capability: str, given: dict[str, Any], **changes: Any) -> Order:
    """Return an order as the API makes it from a caller's `input`."""
    plain = Input.model_validate_json(json.dumps(given)).given()
    settings = {"model": "kling-v3", "external_task_id": "job-1", "job_id": "job-1", **changes}
    return Order(capability=Capability(capability), given=plain, **settings)


def report_fields(report: Report) -> dict[str, Any]:
    """Return a report as `expected.json` writes it: fields without a value are left out."""
    ids = ("vendor_task_id", "external_task_id")
    fields = _present(report, *ids, "progress", "message", "vendor_code", "updated_at")
    if report.videos:
        names = ("url", "id", "duration", "expires_at")
        fields["videos"] = [_present(video, *names) for video in report.videos]
    return {"state": report.state and str(report.state), "word": report.word, **fields}


def _present(item: Report | Output, *names: str) -> dict[str, Any]:
    values = {name: getattr(item, name) for name in names if getattr(item, name) is not None}
    return {k: rfc3339(v) if isinstance(v, datetime) else v for k, v in values.items()}
