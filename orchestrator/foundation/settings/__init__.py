"""Settings, read once at start.

Precedence: flags > `ORCHESTRATOR_*` environment (`__` nests) > `DATABASE_URL`, `PORT`, `PUBLIC_URL`
> secrets directory > TOML file > defaults. An unknown name is refused with the nearest known one:
a typo must not become a default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.masking import MASK, without_password
from orchestrator.foundation.settings import key_file, sources
from orchestrator.foundation.settings.accounts import Account, idle
from orchestrator.foundation.settings.dashboard import Dashboard
from orchestrator.foundation.settings.delivery import Delivery
from orchestrator.foundation.settings.email import Email
from orchestrator.foundation.settings.error_messages import (
    KeyPath,
    annotation_at,
    fault_lines,
    shape_of,
)
from orchestrator.foundation.settings.exposure import exposed, secret_names
from orchestrator.foundation.settings.http import Http
from orchestrator.foundation.settings.types import (
    AccountName,
    BootstrapKey,
    Cidr,
    DatabaseUrl,
    Origin,
    Pause,
    SecretKey,
    Url,
)

_SECRETS_DIR = Path("/run/secrets")
#: The file that is read where none is named.
FOUND = Path("orchestrator.toml")
#: A secret of fewer characters may be guessed.
_STRONG = 32
#: Replicas on PostgreSQL must be given the same keys; there is no file to keep them in.
NO_KEYS = 'secret_keys: required unless the database is a SQLite file; write ["a long random text"]'


class Settings(BaseSettings):
    """All settings. The constructor uses its arguments alone; `load` reads every source."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    public_url: Annotated[Url, Field(min_length=1)] = "http://127.0.0.1:8080"
    database_url: DatabaseUrl = "sqlite:///orchestrator.db"
    secret_keys: list[SecretKey] = []
    allow_private: list[Cidr] = []
    #: Subscribers of the kind `apprise`, whose connections the address policy does not see.
    allow_apprise: bool = False
    #: A PEM file of authorities that egress trusts in addition to those of the system.
    ca_file: Annotated[str, Field(min_length=1)] | None = None
    api_keys: list[BootstrapKey] = []
    accounts: dict[AccountName, Account] = {}
    #: Seconds between checks that the public URL leads here; 0: none.
    public_url_check: Pause = 60
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    #: Requests per minute of each API key, in each process; 0: unlimited. A key may have its own.
    api_rate_limit: Annotated[int, Field(ge=0, le=100_000_000)] = 60_000
    #: Subscribers that one API key may create, and that may have the same address.
    subscribers_per_key: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    subscribers_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    #: Requests of one API key that are held at once: long polls and streams; other bodies.
    waiting_per_key: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    submissions_per_key: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    #: Bytes of a page of a list: it holds fewer entries than its limit if they are large.
    page_bytes: Annotated[int, Field(ge=1, le=64 << 20)] = 1 << 20
    #: Bytes of an uploaded file, and of all uploads at once; half of that for one API key.
    upload_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 25 << 20
    uploads_in_flight_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 512 << 20
    #: Origins of web pages whose scripts may call the API.
    cors_origins: list[Origin] = []
    log_format: Literal["auto", "json", "console"] = "auto"
    #: What this process does, where several share a PostgreSQL database.
    role: Literal["all", "api", "worker"] = "all"

    #: Limits of the HTTP server.
    http: Http = Http()
    dashboard: Dashboard = Dashboard()
    email: Email = Email()
    delivery: Delivery = Delivery()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    #: The TOML file that was read, and when.
    _file: Path | None = PrivateAttr(None)
    _read_at: datetime | None = PrivateAttr(None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: object,
        **_more: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Keep only the arguments: `sources.py` reads the rest, with the origin of each value."""
        return (init_settings,)

    @field_validator("accounts")
    @classmethod
    def _named(cls, accounts: dict[str, Account]) -> dict[str, Account]:
        return {name: account.named(name) for name, account in accounts.items()}

    @property
    def database_file(self) -> Path | None:
        """The file of a SQLite database; None for any other, or one in memory."""
        if not self.database_url.startswith("sqlite"):
            return None
        name = unquote(urlsplit(self.database_url).path[1:])
        return None if name in ("", ":memory:") else Path(name)

    @property
    def base_url(self) -> str:
        """`public_url` without a slash at its end."""
        return self.public_url.rstrip("/")

    def redacted(self) -> dict[str, object]:
        """Return all settings for display, secrets and passwords masked."""
        return {key: _masked(value) for key, value in self.model_dump(by_alias=True).items()}

    def risks(self) -> list[str]:
        """Return a sentence for each setting that is allowed, but unsafe or without effect."""
        weak = [key for key in self.secret_keys if len(key.get_secret_value()) < _STRONG]
        words = (
            f"secret_keys: {len(weak)} with fewer than {_STRONG} characters; who guesses one can "
            "forge callbacks: put a long random one first"
        )
        own = [self.toml_with_secrets]
        if not self.secret_keys and self.database_file is not None:
            own.append(key_file.path_for(self.database_file))
        files = [found for path in own if path and (found := exposed(path))]
        readable = [f"{file.problem}: {file.fix}" for file in files]
        return [*([words] if weak else []), *readable, *idle(self.accounts)]

    @property
    def toml_with_secrets(self) -> Path | None:
        """The TOML file that was read, if a secret comes from it."""
        names = secret_names(self.model_dump(by_alias=True)) if self._file else ()
        found = any(self._origins.get(name) == str(self._file) for name in names)
        return self._file if found else None

    @property
    def read_at(self) -> datetime | None:
        """When they were read from their sources; None for settings that a program has made."""
        return self._read_at

    def changed_since(self, at: datetime) -> list[Path]:
        """Return the files with settings that have changed since an instant."""
        files = {Path(origin) for origin in self._origins.values() if "/" in origin}
        files |= {self._file} if self._file else set()
        return sorted(file for file in files if _modified(file) > at.timestamp())

    def origins(self) -> dict[str, str]:
        """Return the origin of each dotted key: a flag, a variable, a file, or `default`."""
        keys = _dotted(self.model_dump(by_alias=True))
        return {key: self._origins.get(key, "default") for key in keys}


def load(config: Path | None = None, **flags: object) -> Settings:
    """Return the settings of this process. Raises `ConfigError` with a line for each fault."""
    environ, began = os.environ, SystemClock().now()
    directory = environ.get("ORCHESTRATOR_SECRETS_DIR")
    variable = environ.get("ORCHESTRATOR_CONFIG")
    named = config or (Path(variable) if variable else None)

    def shape(path: KeyPath) -> str:
        return shape_of(Settings, path)

    def known(path: KeyPath) -> bool:
        return annotation_at(Settings, path) is not None

    layers = [
        sources.from_flags(flags),
        sources.from_environment(environ, shape),
        sources.from_platform(environ),
    ]
    if directory:
        layers.append(sources.from_secrets(Path(directory), shape))
    else:
        layers.append(sources.from_default_secrets(_SECRETS_DIR, shape, known))
    file = named or (FOUND if FOUND.exists() else None)
    if file:
        layers.append(sources.from_toml(file))
    merged = sources.merge(layers)
    try:
        settings = Settings.model_validate(merged.tree)
    except ValidationError as error:
        raise ConfigError("\n".join(fault_lines(Settings, error, merged.origins))) from None
    settings._file, settings._read_at = file, began
    settings._origins.update({".".join(path): origin for path, origin in merged.origins.items()})
    return settings


def ensure_secret_keys(settings: Settings) -> Settings:
    """Return the settings with secret keys: if none are configured, those of the key file.

    Raises `ConfigError` where there is no key file: replicas on PostgreSQL must be given the keys.
    """
    if settings.secret_keys:
        return settings
    database = settings.database_file
    if database is None:
        raise ConfigError(NO_KEYS)
    path = key_file.path_for(database)
    keys = key_file.read_or_create(path)
    settings = settings.model_copy(update={"secret_keys": [SecretStr(key) for key in keys]})
    settings._origins["secret_keys"] = str(path)
    return settings


def _modified(file: Path) -> float:
    """Return when a file changed, in seconds since 1970; 0 for a flag, or a file that is gone."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _masked(value: object) -> object:
    match value:
        case SecretStr():
            return MASK if value.get_secret_value() else ""
        case dict():
            return {key: _masked(below) for key, below in value.items()}
        case list():
            return [_masked(below) for below in value]
        case str():
            return without_password(value)
        case _:
            return value


def _dotted(tree: Mapping[str, object], prefix: str = "") -> list[str]:
    """Return the keys of the leaves."""
    keys: list[str] = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            keys += _dotted(value, f"{prefix}{key}.")
        else:
            keys.append(prefix + key)
    return keys
