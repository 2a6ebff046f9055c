"""A configured vendor, as the operator named it: where it is, how to get in, and how patient to be with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.foundation.errors import ConfigError

#: The options a vendor has, and the words each may be; None: any text.
Options = Mapping[str, tuple[str, ...] | None]


class Lookup(StrEnum):
    """What can be asked after an answer was lost."""

    #: A task can be found by our external id.
    BY_EXTERNAL_ID = "by_external_id"
    #: The same request with the same key is the same task: send it again.
    BY_KEY = "by_key"
    #: Nothing: only a push can tell.
    NONE = "none"


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


def check_options(account: Account, vendor: str, known: Options) -> None:
    """Raise `ConfigError` for an option the vendor does not have, or a word it may not be."""
    for key, value in account.options.items():
        where = f"accounts.{account.name}.options.{key}"
        if key not in known:
            raise ConfigError(f"{where} is not an option of {vendor}; it has: {', '.join(sorted(known)) or 'none'}")
        allowed = known[key]
        if allowed is not None and value not in allowed:
            raise ConfigError(f"{where} must be one of {', '.join(allowed)}, not {value!r}")
