"""A configured vendor account: where it is, its credentials, its limits and how it is polled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Poll:
    """When silence becomes suspicious, and how long we bear it. All in seconds."""

    first_after: float = 60
    interval: float = 15
    max_interval: float = 120
    deadline: float = 86400
    visibility_lag: float = 10
    output_grace: float = 300
    lost_after: float = 600


@dataclass(frozen=True, slots=True)
class Account:
    """A configured vendor. Its secrets stay out of its repr."""

    name: str
    vendor: str
    base_url: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    signature: str = "none"
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    max_in_flight: int = 10
    #: Submissions a second; None: as many as there are slots.
    rate_limit: float | None = None
    at_least_once: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    poll: Poll = field(default_factory=Poll)
