"""Where settings come from: flags, the environment, a secrets directory and a TOML file, each read as one tree.

Every tree remembers the origin of its leaves, so that `config show` and a complaint can both name it. Nothing is judged
here: a name nobody knows stays in its tree, and `settings.py` refuses it like any other fault.
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

PREFIX = "orchestrator_"
NESTS = "__"
#: Read by the command line and by `load`, not settings themselves.
BESIDE = frozenset(
    {
        "orchestrator_config",
        "orchestrator_secrets_dir",
        "orchestrator_server",
        "orchestrator_api_key",
    }
)
#: What hosting platforms set, without our prefix: https://devcenter.heroku.com/articles/config-vars
PLATFORM = {"DATABASE_URL": "database_url", "PORT": "port", "PUBLIC_URL": "public_url"}
#: A Kubernetes service named `orchestrator` puts these into every pod of its namespace:
#: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_INJECTED = re.compile(r"orchestrator_(service_(host|port).*|port_\d+_(tcp|udp|sctp).*)")

Tree = dict[str, object]
Where = tuple[str, ...]


class Shape(Protocol):
    """What the settings at a path are made of: "list", "tree", or "word" for everything else."""

    def __call__(self, path: Where) -> str: ...


@dataclass
class Source:
    """One tree of settings, and where each of its leaves was written."""

    tree: Tree = field(default_factory=dict)
    origins: dict[Where, str] = field(default_factory=dict)

    def put(self, path: Where, value: object, origin: str) -> None:
        """Write a value; a tree is laid over what is there."""
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

    def under(self, other: Source) -> Source:
        """Return this with `other` laid over it."""
        both = Source()
        for source in (self, other):
            for path, origin in source.origins.items():
                both.put(path, _at(source.tree, path), origin)
        return both


def _at(tree: Tree, path: Where) -> object:
    node: object = tree
    for part in path:
        node = node[part] if isinstance(node, dict) else None
    return node


def from_flags(flags: Mapping[str, object]) -> Source:
    """Return what the command line says. None is a flag that was not given."""
    source = Source()
    for name, value in flags.items():
        if value is not None:
            source.put((name,), value, f"flag --{name.replace('_', '-')}")
    return source


def from_environment(environ: Mapping[str, str], shape: Shape) -> Source:
    """Return what `ORCHESTRATOR_*` says. An empty variable says nothing: compose files pass `${X:-}` that way."""
    source = Source()
    for name, value in _ours(environ):
        source.put(path := _path(name), _decoded(value, shape(path), name.upper()), name.upper())
    return source


def from_platform(environ: Mapping[str, str]) -> Source:
    """Return what the hosting platform's own variables say."""
    source = Source()
    for name, key in PLATFORM.items():
        if environ.get(name):
            source.put((key,), environ[name], name)
    return source


def from_secrets(directory: Path, shape: Shape) -> Source:
    """Return what files named `orchestrator_...` in `directory` say. Raises `ConfigError` if it cannot be read."""
    if not directory.is_dir():
        raise ConfigError(
            f"ORCHESTRATOR_SECRETS_DIR: {directory} is not a directory; name one, or unset the variable"
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
    """Return what a TOML file says. Raises `ConfigError` if it is missing or not TOML, with the position."""
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
    """Return the parser's words without the text it quotes, which may be a secret."""
    return re.sub(r"'[^']*'(?= \(at)", "a character", str(error))


def _ours(words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in sorted(words.items()):
        low = name.lower()
        if not low.startswith(PREFIX) or low in BESIDE or _INJECTED.fullmatch(low) or not value:
            continue
        if low == "orchestrator_port" and value.startswith("tcp://"):
            continue
        yield name, value


def _path(name: str) -> Where:
    return tuple(name.lower().removeprefix(PREFIX).split(NESTS))


def _decoded(value: str, shape: str, origin: str) -> object:
    """Return a word as itself, a list from JSON or commas, a tree from JSON."""
    if shape == "tree" or (shape == "list" and value.lstrip().startswith("[")):
        try:
            decoded: object = json.loads(value)
        except ValueError as error:
            raise ConfigError(
                f"{origin}: not JSON; write {'{...}' if shape == 'tree' else '[...] or a,b,c'}"
            ) from error
        return decoded
    return [part.strip() for part in value.split(",") if part.strip()] if shape == "list" else value


def laid(sources: Sequence[Source]) -> Source:
    """Return the sources as one: the first has the last word."""
    whole = Source()
    for source in reversed(sources):
        whole = whole.under(source)
    return whole
