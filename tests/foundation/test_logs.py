"""Logs: one renderer for all loggers, and no secret passes it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from orchestrator.foundation import logs
from orchestrator.foundation.masking import MASK

TOKEN = "eyJqb2IiOjF9.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Restore the logging of the process."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == "", "stdout belongs to data"
    return [json.loads(line) for line in captured.err.splitlines()]


def test_lines_of_libraries_look_like_ours(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    structlog.get_logger().info("job moved", job_id="job_1", progress=40)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    ours, theirs = logged(capsys)
    assert (ours["event"], ours["job_id"], ours["progress"]) == ("job moved", "job_1", 40)
    assert theirs["event"] == "Started server process [7]"
    assert {"event", "level", "ts"} <= ours.keys() & theirs.keys()


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "api_key",
        "secret_key",
        "access_key",
        "client_secret",
        "token",
        "signature",
        "webhook-signature",
        "webhook_secrets",
        "password",
    ],
)
def test_a_secret_is_masked_by_its_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    structlog.get_logger().info(
        "event", **{name: "hush"}, headers={name: "hush"}, nested=[{name: ["hush"]}]
    )
    (line,) = logged(capsys)
    assert line[name] == MASK
    assert "hush" not in json.dumps(line)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"POST /callbacks/main/{TOKEN} 200", "POST /callbacks/main/*** 200"),
        (
            f"https://h.example/callbacks/main/{TOKEN}?a=1",
            "https://h.example/callbacks/main/***?a=1",
        ),
        (f"GET /dashboard/shared/{TOKEN} 200", "GET /dashboard/shared/*** 200"),
        ("sent Authorization: Bearer abcdefgh12345", "sent Authorization: Bearer ***"),
        ("key orc_" + "a" * 32, "key orc_***"),
        ("key orc_pass.abcdefgh.ijk", "key orc_pass.***"),
        ("signed with whsec_aGVsbG8gd29ybGQ=", "signed with whsec_***"),
        ("postgresql://user:hush@host/name", "postgresql://user:***@host/name"),
        ("the token was refused", "the token was refused"),
    ],
)
def test_a_secret_is_masked_by_its_form(
    text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("json")
    structlog.get_logger().info(text, where=[text])
    logging.getLogger("library").warning("%s", text)
    ours, theirs = logged(capsys)
    assert ours["event"] == theirs["event"] == expected
    assert ours["where"] == [expected]


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_logged_without_its_secrets(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(form)
    try:
        raise ValueError(f"no route to /callbacks/main/{TOKEN}")
    except ValueError:
        structlog.get_logger().exception("a call failed")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    captured = capsys.readouterr().err
    assert captured.count("ValueError: no route to /callbacks/main/***") == 2
    assert TOKEN not in captured


def test_a_librarys_entry_for_every_tick_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logging.getLogger("apscheduler.executors.default").info("Running job")
    logging.getLogger("apscheduler.executors.default").warning("Job missed")
    assert [line["event"] for line in logged(capsys)] == ["Job missed"]


def test_auto_is_json_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    structlog.get_logger().info("up")
    assert logged(capsys)[0]["event"] == "up"


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize(
    "text", ["a\x1b[2J", "a\nFORGED", "a\r\nFORGED x", "\u202ea", "a\u2028FORGED"]
)
def test_no_text_drives_the_terminal_or_forges_a_line(
    form: Literal["console", "json"], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(form)
    log = structlog.get_logger()
    log.info("job refused", reason=text, nested=[{text: text}], **{text: text})
    log.info(text)
    logging.getLogger("uvicorn.error").info("header %s", text)
    try:
        raise ValueError(text)
    except ValueError as error:
        log.exception("failed")
        log.error("failed", exception=logs.traceback_of(error))
    lines = capsys.readouterr().err.split("\n")
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("FORGED")]
    assert [line for line in lines if "ValueError" in line]


def test_a_traceback_on_the_console_is_indented_and_marked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("console")
    try:
        raise ValueError("a\n2026-11-29T10:00:00Z [info     ] job succeeded")
    except ValueError:
        structlog.get_logger().exception("failed")
    _, *traceback = capsys.readouterr().err.splitlines()
    assert traceback
    assert all(line.startswith("  | ") for line in traceback)
