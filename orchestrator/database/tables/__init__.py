"""The tables: declarations without behaviour. Queries use the Core tables below.

The row is the queue: `due_at` says when the next step is due (NULL: none) and `state` which step.
There are no foreign keys: the ledger alone writes these rows, in one transaction, and a look-up on
every insert would slow the hot path. Every index serves one statement.
"""

from __future__ import annotations

from sqlmodel import SQLModel

# These modules declare the tables.
from orchestrator.database.tables import api_keys, events, jobs, processes  # noqa: F401

metadata = SQLModel.metadata
job = metadata.tables["job"]
job_image = metadata.tables["job_image"]
push = metadata.tables["push"]
event = metadata.tables["event"]
subscriber = metadata.tables["subscriber"]
subscriber_version = metadata.tables["subscriber_version"]
callback_address = metadata.tables["callback_address"]
delivery = metadata.tables["delivery"]
attempt = metadata.tables["attempt"]
replay = metadata.tables["replay"]
trace = metadata.tables["trace"]
latency = metadata.tables["latency"]
account_state = metadata.tables["account_state"]
process = metadata.tables["process"]
api_key = metadata.tables["api_key"]
