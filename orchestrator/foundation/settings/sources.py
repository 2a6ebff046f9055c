"""The sources of settings: flags, environment, secrets directory and TOML file, each as a tree.

Every tree keeps the origin of its leaves, for `config show` and for error messages. Nothing is
validated here: an unknown name stays in its tree, and `Settings` refuses it like any other fault.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic_settings import NestedSecretsSettingsSource, SettingsError

from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings.error_messages import KeyPath

_PREFIX = "orchestrator_"
_NESTING = "__"
#: Variables read by the command line and by `load`: not settings.
_NOT_SETTINGS = frozenset(
    {
        "orchestrator_config",
        "orchestrator_secrets_dir",
        "orchestrator_server",
        "orchestrator_api_key",
    }
)
#: Variables that hosting platforms set:
#: https://devcenter.heroku.com/articles/config-vars
_PLATFORM = {"DATABASE_URL": "database_url", "PORT": "port", "PUBLIC_URL": "public_url"}
#: Variables that Kubernetes sets for a service named `orchestrator`, in every pod of its namespace:
#: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_INJECTED = re.compile(r"orchestrator_(service_(host|port).*|port_\d+_(tcp|udp|sctp).*)")

Tree = dict[str, object]


class Shape(Protocol):
    """Returns the shape of the settings at a path: "list", "tree" or "text"."""

    def __call__(self, path: KeyPath) -> str: ...


@dataclass
class Source:
    """A tree of settings, and the origin of each leaf."""

    tree: Tree = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def put(self, path: KeyPath, value: object, origin: str) -> None:
        """Set a value; a tree is merged into what is there."""
        if isinstance(value, Mapping) and value:
            for key, below in value.items():
                self.put((*path, str(key)), below, origin)
            return
        node = self.tree
        for part in path[:-1]:
            below = node.get(part)
            node[part] = node = below if isinstance(below, dict) else {}
        node[path[-1]] = value
        self.origins[path] = origin


def _at(tree: Tree, path: KeyPath) -> object:
    node: object = tree
    for part in path:
        node = node[part] if isinstance(node, dict) else None
    return node


def from_flags(flags: Mapping[str, object]) -> Source:
    """Return the settings of the command line. None is a flag that was not given."""
    source = Source()
    for name, value in flags.items():
        if value is not None:
            source.put((name,), value, f"flag --{name.replace('_', '-')}")
    return source


def from_environment(environ: Mapping[str, str], shape: Shape) -> Source:
    """Return the settings in `ORCHESTRATOR_*`.

    Empty variables are skipped: compose files pass `${X:-}` that way.
    """
    source = Source()
    for name, value in _ours(environ):
        source.put(path := _path(name), _decoded(value, shape(path), name.upper()), name.upper())
    return source


def from_platform(environ: Mapping[str, str]) -> Source:
    """Return the settings in the variables of the hosting platform."""
    source = Source()
    for name, key in _PLATFORM.items():
        if environ.get(name):
            source.put((key,), environ[name], name)
    return source


def from_secrets(directory: Path, shape: Shape) -> Source:
    """Return the settings in the files `orchestrator_*` of `directory`. Raises `ConfigError`."""
    if not directory.is_dir():
        raise ConfigError(
            f"ORCHESTRATOR_SECRETS_DIR: {directory} is not a directory; name one, or unset it"
        )
    try:
        files = NestedSecretsSettingsSource.load_secrets(directory.resolve())
    except (SettingsError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{directory} cannot be read as secrets: {type(error).__name__}"
        ) from error
    source = Source()
    for name, value in _ours(files):
        origin = str(directory / name)
        source.put(path := _path(name), _decoded(value, shape(path), origin), origin)
    return source


def from_toml(path: Path) -> Source:
    """Return the settings in a TOML file.

    Raises `ConfigError` if it is missing or not TOML, with the position.
    """
    source = Source()
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {_position(error)}; see https://toml.io") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; `orchestrator config init` writes one"
        ) from error
    for key, value in tree.items():
        source.put((key,), value, str(path))
    return source


def _position(error: tomllib.TOMLDecodeError) -> str:
    """Return the parser's message without the text it quotes, which may be a secret."""
    return re.sub(r"'[^']*'(?= \(at)", "a character", str(error))


def _ours(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in sorted(values.items()):
        low = name.lower()
        if (
            not low.startswith(_PREFIX)
            or low in _NOT_SETTINGS
            or _INJECTED.fullmatch(low)
            or not value
        ):
            continue
        if low == "orchestrator_port" and value.startswith("tcp://"):
            continue
        yield name, value


def _path(name: str) -> KeyPath:
    return tuple(name.lower().removeprefix(_PREFIX).split(_NESTING))


def _decoded(value: str, shape: str, origin: str) -> object:
    """Return a text as it is, a list from JSON or commas, a tree from JSON."""
    if shape == "tree" or (shape == "list" and value.lstrip().startswith("[")):
        try:
            decoded: object = json.loads(value)
        except ValueError as error:
            raise ConfigError(
                f"{origin}: not JSON; write {'{...}' if shape == 'tree' else '[...] or a,b,c'}"
            ) from error
        return decoded
    return [part.strip() for part in value.split(",") if part.strip()] if shape == "list" else value


def merge(sources: Sequence[Source]) -> Source:
    """Return the sources as one. The first takes precedence."""
    merged = Source()
    for source in reversed(sources):
        for path, origin in source.origins.items():
            merged.put(path, _at(source.tree, path), origin)
    return merged
