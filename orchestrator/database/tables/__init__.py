"""The tables: declarations without behaviour. Queries use the Core tables below.

The row is the queue: `due_at` says when the next step is due (NULL: none) and `state` which step.
There are no foreign keys: the ledger alone writes these rows, in one transaction, and a look-up on
every insert would slow the hot path. Every index serves one statement.
"""

from __future__ import annotations

from sqlmodel import SQLModel

from orchestrator.database.tables.api_keys import ApiKey
from orchestrator.database.tables.events import Attempt, Delivery, Event, Replay, Subscriber
from orchestrator.database.tables.jobs import AccountState, Job, Push, Trace

__all__ = [
    "AccountState",
    "ApiKey",
    "Attempt",
    "Delivery",
    "Event",
    "Job",
    "Push",
    "Replay",
    "Subscriber",
    "Trace",
    "account_state",
    "api_key",
    "attempt",
    "delivery",
    "event",
    "job",
    "metadata",
    "push",
    "replay",
    "subscriber",
    "trace",
]

metadata = SQLModel.metadata
job = metadata.tables["job"]
push = metadata.tables["push"]
event = metadata.tables["event"]
subscriber = metadata.tables["subscriber"]
delivery = metadata.tables["delivery"]
attempt = metadata.tables["attempt"]
replay = metadata.tables["replay"]
trace = metadata.tables["trace"]
account_state = metadata.tables["account_state"]
api_key = metadata.tables["api_key"]
