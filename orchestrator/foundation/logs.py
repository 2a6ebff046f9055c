"""Logs: structlog, the standard library and uvicorn through one renderer, with secrets masked."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Literal

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from orchestrator.foundation.masking import (
    API_KEY_PREFIX,
    MASK,
    OPERATOR_PREFIX,
    WEBHOOK_PREFIX,
    without_password,
)

#: Names whose values are never shown.
_SECRET_NAME = re.compile(
    r"(?i)(^|[_-])(authorization|cookie|password|secrets?|secret_keys?|api_?keys?|access_?key|token"
    r"|signatures?|sig)$|_keys?$|_secret"
)
_PREFIXES = "|".join(map(re.escape, (WEBHOOK_PREFIX, OPERATOR_PREFIX, API_KEY_PREFIX)))
#: A slash, also as JSON and forms escape it.
_SLASH = r"(?:\\*/|%2f|\\u002f)"
#: Secrets in any text: tokens in URLs, and credentials.
_SECRET_TEXT = (
    (
        re.compile(rf"(?i)({_SLASH}callbacks{_SLASH}+[^/\\%\s\"']+{_SLASH}+)[^\s\"'?#]+"),
        rf"\1{MASK}",
    ),
    (re.compile(rf"(?i)({_SLASH}dashboard{_SLASH}+shared{_SLASH}+)[^\s\"'?#]+"), rf"\1{MASK}"),
    (re.compile(r"([?&]ticket=)[^\s\"'&#]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(rf"\b({_PREFIXES})[\w.+/=-]{{8,}}"), rf"\1{MASK}"),
)
#: Fields that the console shows as they are, and those of several lines.
_UNQUOTED, _PARAGRAPHS = ("event", "level", "logger", "logger_name"), ("exception", "stack")
#: Structures are cut at this depth; no log entry nests as deep.
_DEPTH = 6
#: Libraries whose INFO repeats ours, or comes every second.
_QUIET = ("alembic", "apscheduler", "httpx", "httpcore", "aiohttp", "asyncio")
#: Clients of brokers, which log ten times a second what the attempt records.
_SILENT = ("aiokafka", "aio_pika", "aiormq", "apprise", "nats", "redis")


def configure(
    form: Literal["auto", "json", "console"] = "auto",
    level: int = logging.INFO,
    handler: logging.Handler | None = None,
) -> None:
    """Log from `level` on to stderr, or to `handler`: as JSON lines, or for a console.

    "auto" asks whether stderr is a console.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    console = form == "console" or (form == "auto" and is_terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp" if console else "ts"),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = handler or logging.StreamHandler(sys.stderr)
    last: list[Processor] = [structlog.processors.format_exc_info, redact]
    last += _console(colors=is_terminal) if console else [structlog.processors.JSONRenderer()]
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *last])
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _console(*, colors: bool) -> list[Processor]:
    """Return the renderer of a console, behind `escape`: JSON does that by itself."""
    plain = structlog.dev.plain_traceback
    return [escape, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask every secret, by its name or by its form (a structlog processor)."""
    return {key: masked(value, key) for key, value in event.items()}


def escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what could drive a terminal or forge a line (a structlog processor).

    Vendors and callers wrote some of it. Lines of a traceback are indented and marked.
    """
    return {_escaped(str(name)): _shown(name, value) for name, value in event.items()}


class _Quoted:
    """A text that structlog shows quoted and escaped: it quotes only what contains white space."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _shown(name: str, value: object) -> object:
    if not isinstance(value, str):
        # Shown by `repr`, which escapes.
        return value
    if name in _PARAGRAPHS:
        return "\n".join(f"  | {_escaped(line)}" for line in value.splitlines())
    if name in _UNQUOTED:
        return _escaped(value)
    return value if value.isprintable() else _Quoted(value)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def traceback_of(error: BaseException) -> str:
    """Return a traceback as masked text, for the field `exception`.

    Not `log.exception`: in a host application the host's renderer formats that, and structlog's own
    shows every variable of every frame, the caller's key among them.
    """
    return str(masked("".join(traceback.format_exception(error))))


def masked(value: object, name: str = "", depth: int = _DEPTH) -> object:
    """Return a value with the secrets in it masked."""
    if _SECRET_NAME.search(name):
        return MASK
    match value:
        case str():
            for pattern, replacement in _SECRET_TEXT:
                value = pattern.sub(replacement, value)
            return without_password(value)
        case bytes():
            return masked(value.decode("utf-8", "replace"), name, depth)
        case Mapping() if depth:
            return {key: masked(below, str(key), depth - 1) for key, below in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [masked(below, "", depth - 1) for below in value]
        case None | bool() | int() | float():
            return value
        case _:
            return masked(str(value), name, depth) if depth else MASK
