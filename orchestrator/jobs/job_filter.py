"""The filter of a list of jobs, and of the jobs that a replay retries: a value of plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from orchestrator.database.json_filters import entry
from orchestrator.foundation.states import JobState


class JobFilter(TypedDict, total=False):
    """What a job must have; None and absent are no condition.

    `error` is the code of its error, `metadata` an entry of its metadata as `name=text`.
    """

    status: Sequence[str] | None
    account: str | None
    model: str | None
    external_task_id: str | None
    vendor_task_id: str | None
    resolved_by: str | None
    fairness_key: str | None
    error: str | None
    metadata: str | None


#: The filters of `listing.jobs` that are columns.
_COLUMNS = (
    "account", "model", "external_task_id", "vendor_task_id", "resolved_by", "fairness_key",
)  # fmt: skip


def wanted(given: JobFilter) -> Mapping[str, Sequence[str]]:
    """Return the wanted values of each filter, for `listing.jobs`."""
    status, error, metadata = given.get("status"), given.get("error"), given.get("metadata")
    if error is not None and status is None:
        # No other job has an error, and this leads along an index.
        status = (JobState.FAILED,)
    found = {name: [value] for name in _COLUMNS if (value := _text(given, name)) is not None}
    if status is not None:
        found["state"] = list(dict.fromkeys(status))
    if error is not None:
        found["error_code"] = [entry("code", error)]
    if metadata is not None:
        name, _, text = metadata.partition("=")
        found["metadata_entry"] = [entry(name, text)]
    return found


def _text(given: JobFilter, name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None
