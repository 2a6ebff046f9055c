"""Retries: the number of a retry is unique in its chain, also between processes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from orchestrator.database.store import Tx
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.states import JobState
from orchestrator.jobs import retries
from orchestrator.jobs.creation import Accepted
from orchestrator.jobs.retries import RetryNumber, create_retry
from tests.harness.engine import report_state
from tests.harness.runtime import Harness


async def retried(h: Harness, old: Any, *, again: bool) -> Accepted | Exception:
    """Retry a job as the API does."""
    job_id = h.runtime.ids("job")
    draft = dict(old) | {
        "id": job_id, "external_task_id": job_id, "retry_of": old["id"], "state": JobState.QUEUED,
        "vendor_task_id": None,
    }  # fmt: skip
    return await h.runtime.store.write(partial(create_retry, again=again), draft)


@pytest.mark.parametrize("again", [False, True])
async def test_a_retry_that_another_process_has_overtaken_is_judged_again(
    h: Harness, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await h.open()
    old = await report_state(h, opened["id"], JobState.FAILED)
    first = await retried(h, old, again=False)
    assert isinstance(first, Accepted)
    number_of, seen = retries.number_of, list[RetryNumber]()

    def outdated(tx: Tx, job_id: str, *, again: bool) -> RetryNumber:
        """Answer at first as before the other process committed."""
        seen.append(
            RetryNumber(opened["id"], 1) if not seen else number_of(tx, job_id, again=again)
        )
        return seen[-1]

    monkeypatch.setattr(retries, "number_of", outdated)
    second = await retried(h, old, again=again)
    if again:
        assert isinstance(second, Accepted)
        assert second.job["retry_number"] == 2
    else:
        assert isinstance(second, Conflict)
        assert second.members["job_id"] == first.job["id"]
