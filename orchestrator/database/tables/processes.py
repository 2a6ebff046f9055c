"""The table of processes: those of a shared database that claim work."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, SQLModel

from orchestrator.database.tables.columns import Instant


class Process(SQLModel, table=True):
    """A process on PostgreSQL. It lives while its session holds the lock of its number."""

    id: int | None = Field(default=None, primary_key=True)
    started_at: datetime = Field(sa_type=Instant)
    #: Since when its lock is free; its claims are taken back a little later.
    lost_at: datetime | None = Field(default=None, sa_type=Instant)
