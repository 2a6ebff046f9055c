"""An event as destinations get it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from orchestrator.events.destinations import Message

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
JOB = "job_01kb7x3m5tf6a8r2w9n4c1d0eh"


def event(number: int = 1) -> Message:
    body = {
        "type": "job.succeeded", "timestamp": "2026-11-20T10:00:00.000Z", "id": f"evt_{number}",
        "sequence": 3, "data": {"id": JOB, "input": {"prompt": "a cat \u2014 \U0001f408\0"}},
    }  # fmt: skip
    return Message(f"evt_{number}", "job.succeeded", json.dumps(body).encode(), AT, JOB)
