"""What the operator decides, read once at start.

Precedence: flags > `ORCHESTRATOR_*` environment (`__` nests) > `DATABASE_URL`, `PORT`, `PUBLIC_URL` > secrets directory
> TOML file > defaults. A name nobody knows is refused with the nearest known one: a typo must not become a default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError
from pydantic import model_validator as checked
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.masking import MASK, without_password
from orchestrator.foundation.settings import key_file, sources
from orchestrator.foundation.settings.error_messages import UNMET, fault_lines, shape_of
from orchestrator.foundation.settings.types import (
    AccountName,
    BootstrapKey,
    Cidr,
    DatabaseUrl,
    Rate,
    Seconds,
    SecretKey,
    SigningSecret,
    Url,
)

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_SECRETS_DIR = Path("/run/secrets")
_TOML = Path("orchestrator.toml")
_NOTHING = SecretStr("")


class PollSettings(BaseModel):
    """When silence becomes suspicious, and how long it is borne. All in seconds."""

    model_config = _STRICT

    first_after: Seconds = 60
    interval: Seconds = 15
    max_interval: Seconds = 120
    deadline: Seconds = 86400
    visibility_lag: Seconds = 10
    output_grace: Seconds = 300
    lost_after: Seconds = 600

    @checked(mode="after")
    def _grows(self) -> PollSettings:
        if self.max_interval < self.interval:
            raise PydanticCustomError(
                UNMET, "must not be smaller than interval", {"field": "max_interval"}
            )
        return self


#: Characters from which a secret is not guessed.
_STRONG = 32


class AccountSettings(BaseModel):
    """One vendor as the operator can use it."""

    model_config = _STRICT

    vendor: Annotated[str, Field(min_length=1, max_length=64)]
    base_url: Url = ""
    api_key: SecretStr = _NOTHING
    access_key: SecretStr = _NOTHING
    secret_key: SecretStr = _NOTHING
    signature: Literal["required", "optional", "none"] = "none"
    webhook_secrets: list[SigningSecret] = []
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 10
    rate_limit: Rate | None = None
    on_lost_submit: Literal["at_most_once", "at_least_once"] = "at_most_once"
    options: dict[str, str] = {}
    poll: PollSettings = PollSettings()

    @checked(mode="after")
    def _verifiable(self) -> AccountSettings:
        if self.signature != "none" and not self.webhook_secrets:
            raise PydanticCustomError(
                UNMET,
                'needs webhook_secrets = ["whsec_..."]; or write "none"',
                {"field": "signature"},
            )
        return self


#: Replicas on PostgreSQL must be given the same keys; there is no place beside the database for them.
NO_KEYS = 'secret_keys: required unless the database is a SQLite file; write ["a long random text"]'


class Settings(BaseSettings):
    """Everything the operator decides. Constructed directly it knows its arguments alone; `load` reads the world."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    public_url: Annotated[Url, Field(min_length=1)] = "http://127.0.0.1:8080"
    database_url: DatabaseUrl = "sqlite:///orchestrator.db"
    secret_keys: list[SecretKey] = []
    allow_private: list[Cidr] = []
    api_keys: list[BootstrapKey] = []
    accounts: dict[AccountName, AccountSettings] = {}
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    #: Requests a minute of each API key, in each process; 0: any number. A key may have a limit of its own.
    api_rate_limit: Annotated[int, Field(ge=0, le=100_000_000)] = 60_000
    log_format: Literal["auto", "json", "console"] = "auto"
    #: What this process does, where several share a PostgreSQL database: answer, work, or both.
    role: Literal["all", "api", "worker"] = "all"

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: object,
        **_more: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave only the arguments: `sources.py` reads the rest, and knows the origin of each."""
        return (init_settings,)

    @property
    def database_file(self) -> Path | None:
        """The file of a SQLite database; None for another database, or one that is only in memory."""
        parts = urlsplit(self.database_url)
        name = unquote(parts.path[1:])
        return (
            Path(name)
            if parts.scheme.startswith("sqlite") and name not in ("", ":memory:")
            else None
        )

    def redacted(self) -> dict[str, object]:
        """Return all of it for display: secrets and passwords masked."""
        shown = _shown(self.model_dump())
        return shown if isinstance(shown, dict) else {}

    def risks(self) -> list[str]:
        """Return in words what is allowed and better were not so."""
        weak = [key for key in self.secret_keys if len(key.get_secret_value()) < _STRONG]
        words = f"secret_keys: {len(weak)} with fewer than {_STRONG} characters; who guesses one can forge callbacks"
        return [f"{words}: put a long random one first"] if weak else []

    def origins(self) -> dict[str, str]:
        """Return where each dotted key was written: a flag, a variable, a file, or `default`."""
        return {key: self._origins.get(key, "default") for key in _dotted(self.model_dump())}


def load(config: Path | None = None, **flags: object) -> Settings:
    """Return the settings of this process. Raises `ConfigError` with one line for each fault."""
    environ = os.environ
    directory = Path(environ.get("ORCHESTRATOR_SECRETS_DIR") or _SECRETS_DIR)
    named = config or (
        Path(environ["ORCHESTRATOR_CONFIG"]) if environ.get("ORCHESTRATOR_CONFIG") else None
    )

    def shape(path: sources.Where) -> str:
        return shape_of(Settings, path)

    layers = [
        sources.from_flags(flags),
        sources.from_environment(environ, shape),
        sources.from_platform(environ),
    ]
    if environ.get("ORCHESTRATOR_SECRETS_DIR") or directory.is_dir():
        layers.append(sources.from_secrets(directory, shape))
    if named or _TOML.exists():
        layers.append(sources.from_toml(named or _TOML))
    whole = sources.laid(layers)
    try:
        settings = Settings.model_validate(whole.tree)
    except ValidationError as error:
        raise ConfigError("\n".join(fault_lines(Settings, error, whole.origins))) from None
    settings._origins.update({".".join(path): origin for path, origin in whole.origins.items()})
    return settings


def ensure_secret_keys(settings: Settings) -> Settings:
    """Return the settings with secret keys, from the file beside a SQLite database if none are configured.

    Raises `ConfigError` where there is no such place: replicas on PostgreSQL must be given the same keys.
    """
    if settings.secret_keys:
        return settings
    database = settings.database_file
    if database is None:
        raise ConfigError(NO_KEYS)
    path = key_file.beside(database)
    keys = key_file.read_or_create(path)
    settings = settings.model_copy(update={"secret_keys": [SecretStr(key) for key in keys]})
    settings._origins["secret_keys"] = str(path)
    return settings


def _shown(value: object) -> object:
    match value:
        case SecretStr():
            return MASK if value.get_secret_value() else ""
        case dict():
            return {key: _shown(below) for key, below in value.items()}
        case list():
            return [_shown(below) for below in value]
        case str():
            return without_password(value)
        case _:
            return value


def _dotted(tree: Mapping[str, object], prefix: str = "") -> list[str]:
    """Return the keys of the leaves."""
    keys: list[str] = []
    for key, value in tree.items():
        keys += (
            _dotted(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else [prefix + key]
        )
    return keys
