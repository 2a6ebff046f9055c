"""The sources of settings: flags, environment, secrets directory and TOML file, each as a tree.

Every tree keeps the origin of its leaves, for `config show` and for error messages. Nothing is
validated here: an unknown name stays in its tree, and `Settings` refuses it like any other fault.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings import secrets_directory
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
#: Variables that Kubernetes sets in every pod of a namespace for each service, here for those named
#: `orchestrator` or `orchestrator-...`, in the form of Docker's links:
#: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_LINK = re.compile(
    r"orchestrator(_\w+)?_(service_host|service_port(_\w+)?"
    r"|port_\d+_(tcp|udp|sctp)(_(proto|port|addr))?)"
)
_LINKED = re.compile(r"(tcp|udp|sctp)://")

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
    return [_leaf(name, value, name.upper(), shape) for name, value in _ours(environ, shape)]


def from_platform(environ: Mapping[str, str]) -> list[Leaf]:
    """Return the settings in the variables of the hosting platform."""
    given = {name: environ.get(name, "").strip() for name in _PLATFORM}
    return [
        ((_PLATFORM[name],), value, name)
        for name, value in given.items()
        if value and not _LINKED.match(value)
    ]


def from_secrets(directory: Path, shape: Shape) -> list[Leaf]:
    """Return the settings in the files `orchestrator_*` of `directory`. Raises `ConfigError`."""
    if not directory.is_dir():
        raise ConfigError(
            f"ORCHESTRATOR_SECRETS_DIR: {directory} is not a directory; name one, or unset it"
        )
    return _from_files(directory, shape, _is_ours)


def from_default_secrets(
    directory: Path, shape: Shape, known: Callable[[KeyPath], bool]
) -> list[Leaf]:
    """Return the settings in the files of a directory that nothing names, if it can be listed.

    Other programs share it: an unknown name is theirs, and no mistake. Raises `ConfigError`.
    """
    if not os.access(directory, os.R_OK | os.X_OK) or not directory.is_dir():
        return []
    return _from_files(directory, shape, lambda name: _is_ours(name) and known(_path(name)))


def _from_files(directory: Path, shape: Shape, is_ours: Callable[[str], bool]) -> list[Leaf]:
    files = dict(secrets_directory.read(directory, is_ours))
    return [_leaf(name, value, str(directory / name), shape) for name, value in _ours(files, shape)]


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


def _ours(values: Mapping[str, str], shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield the settings among variables, sorted; empty ones and those of links are left out."""
    for name, value in sorted(values.items()):
        if _is_ours(name) and value.strip() and not _is_link(name, value, shape):
            yield name, value


def _is_ours(name: str) -> bool:
    low = name.lower()
    return low.startswith(_PREFIX) and low not in _NOT_SETTINGS


def _is_link(name: str, value: str, shape: Shape) -> bool:
    """True for a variable that Kubernetes sets for a service, by the form of name and value."""
    top, nested, _ = name.lower().removeprefix(_PREFIX).partition(_NESTING)
    if nested and shape((top,)) == "tree":
        return False
    # The port of a service is a URL, that of ours a number.
    is_port = name.lower().endswith("_port") and _LINKED.match(value.strip())
    return bool(is_port or _LINK.fullmatch(name.lower()))


def _path(name: str) -> KeyPath:
    return tuple(name.lower().removeprefix(_PREFIX).split(_NESTING))


def _leaf(name: str, value: str, origin: str, shape: Shape) -> Leaf:
    path = _path(name)
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
