"""The sources of settings: flags, environment, secrets directory and TOML file, each as a tree.

Every tree keeps the origin of its leaves, for `config show` and for error messages. Nothing is
validated here: an unknown name stays in its tree, and `Settings` refuses it like any other fault.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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

#: A leaf: its path, its value and its origin. A mapping stands for all leaves below the path.
Leaf = tuple[KeyPath, object, str]
#: Returns the shape of the settings at a path: "list", "tree" or "text".
Shape = Callable[[KeyPath], str]


@dataclass
class Merged:
    """A tree of settings, and the origin of each leaf."""

    tree: dict[str, object] = field(default_factory=dict)
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


def merge(sources: Sequence[Sequence[Leaf]]) -> Merged:
    """Return the sources as one. The first takes precedence."""
    merged = Merged()
    for source in reversed(sources):
        for leaf in source:
            merged.put(*leaf)
    return merged


def from_flags(flags: Mapping[str, object]) -> list[Leaf]:
    """Return the settings of the command line. None is a flag that was not given."""
    return [
        ((name,), value, f"flag --{name.replace('_', '-')}")
        for name, value in flags.items()
        if value is not None
    ]


def from_environment(environ: Mapping[str, str], shape: Shape) -> list[Leaf]:
    """Return the settings in `ORCHESTRATOR_*`.

    Empty variables are skipped: compose files pass `${X:-}` that way.
    """
    return [_leaf(name, value, name.upper(), shape) for name, value in _ours(environ)]


def from_platform(environ: Mapping[str, str]) -> list[Leaf]:
    """Return the settings in the variables of the hosting platform."""
    given = {name: environ.get(name, "").strip() for name in _PLATFORM}
    return [((_PLATFORM[name],), value, name) for name, value in given.items() if value]


def from_secrets(directory: Path, shape: Shape) -> list[Leaf]:
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
    return [_leaf(name, value, str(directory / name), shape) for name, value in _ours(files)]


def from_toml(path: Path) -> list[Leaf]:
    """Return the settings in a TOML file.

    Raises `ConfigError` if it is missing or not TOML, with the position.
    """
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
    return [((key,), value, str(path)) for key, value in tree.items()]


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
            or not value.strip()
        ):
            continue
        if low == "orchestrator_port" and value.startswith("tcp://"):
            continue
        yield name, value


def _leaf(name: str, value: str, origin: str, shape: Shape) -> Leaf:
    path = tuple(name.lower().removeprefix(_PREFIX).split(_NESTING))
    return path, _decoded(value, shape(path), origin), origin


def _decoded(value: str, shape: str, origin: str) -> object:
    """Return text without blanks around it, a list from JSON or commas, a tree from JSON."""
    if shape == "tree" or (shape == "list" and value.lstrip().startswith("[")):
        try:
            decoded: object = json.loads(value)
        except ValueError as error:
            raise ConfigError(
                f"{origin}: not JSON; write {'{...}' if shape == 'tree' else '[...] or a,b,c'}"
            ) from error
        return decoded
    if shape == "list":
        return [part.strip() for part in value.split(",") if part.strip()]
    return value.strip()
