"""The table of API keys."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, SQLModel

from orchestrator.database.tables.columns import Instant


class ApiKey(SQLModel, table=True):
    """An API key: only its digest is stored."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    name: str
    #: The first characters, to recognise it.
    prefix: str
    digest: str = Field(unique=True)
    scope: str
    #: Requests per minute; 0: unlimited, None: as in the settings.
    rate_limit: int | None = None
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
    last_used_at: datetime | None = Field(default=None, sa_type=Instant)
