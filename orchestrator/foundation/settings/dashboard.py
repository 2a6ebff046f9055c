"""Settings of the dashboard, and of links to one job that need no key."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: Days for which a link may be valid.
MAX_SHARE_DAYS = 365


class Dashboard(BaseModel):
    """Pages for people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    #: Days for which a link to one job is valid, unless its maker says otherwise; 0: no links.
    share_days: Annotated[int, Field(ge=0, le=MAX_SHARE_DAYS)] = 7
