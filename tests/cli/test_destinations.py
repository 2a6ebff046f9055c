"""Commands for kinds of destinations, and credentials that stay out of the shell's history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import subscriber_test
from tests.cli.test_operate import DLV, SUB, bodies, ran, scripted_test
from tests.harness.command_line import AT, Fake, delivery, page, subscriber

CHAT: dict[str, Any] = {
    "object": "destination", "kind": "chat", "example": "https://chat.example.com",
    "schemes": ["https", "http"], "signed": False, "secret_address": True,
    "options": {
        "room": {"description": "The room.", "required": True, "choices": [], "pattern": "."}
    },
    "credentials": {
        "secret": {"description": "Signs.", "required": False, "choices": [], "pattern": "."},
    },
    "max_in_flight": 8, "extra": "chat", "installed": False, "origin": "built-in",
}  # fmt: skip


def test_kinds_are_listed_with_what_they_take_and_lack(fake: Fake) -> None:
    fake.script("GET /v1/destinations", (200, page(CHAT)))
    done = ran(fake, "destinations", "ls")
    assert (done.code, done.out.splitlines()[1].split()) == (
        0,
        ["chat", CHAT["example"], "room*", "secret", "orchestrator[chat]", "built-in"],
    )
    assert ran(fake, "destinations", "ls", "-q").out.split() == ["chat"]


def test_credentials_come_from_a_file_the_environment_or_the_command(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from a=file\n")
    monkeypatch.setenv("CREDENTIAL_PASSWORD", "@from environment")
    made = subscriber(kind="chat", credentials=["password", "token"])
    fake.script("POST /v1/subscribers", (201, made))
    words = ["--credential", f"token=@{file}", "--credential", "password"]
    done = ran(fake, "subscribers", "add", "queue://h/q", *words, "--credential", "username=me=b")
    (body,) = bodies(fake, "POST /v1/subscribers")
    assert body == {
        "url": "queue://h/q",
        "credentials": {
            "token": "from a=file", "password": "@from environment", "username": "me=b"
        },
    }  # fmt: skip
    assert "credentials  password, token" in done.out
    fake.script(f"GET /v1/subscribers/{SUB}", (200, made))
    fake.script(f"PATCH /v1/subscribers/{SUB}", (200, made | {"dropped": ["credentials"]}))
    done = ran(fake, "subscribers", "update", SUB, "--credential", "token=x")
    assert bodies(fake, f"PATCH /v1/subscribers/{SUB}") == [{"credentials": {"token": "x"}}]
    assert "give --header or --credential again" in done.err


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("token", "set CREDENTIAL_TOKEN"),
        ("token=@/nowhere/at/all", "/nowhere/at/all: No such file"),
        ("to ken=hunter2", "write NAME=VALUE"),
        ("=hunter2", "write NAME=VALUE"),
    ],
)
def test_a_credential_that_cannot_be_read_is_refused_without_a_request(
    fake: Fake, word: str, says: str
) -> None:
    done = ran(fake, "subscribers", "add", "https://my.app", "--credential", word)
    assert (done.code, fake.asked) == (2, [])
    assert says in " ".join(done.err.split())
    assert "hunter2" not in done.err


def test_a_test_shows_what_was_sent_and_what_was_answered(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_test, "_LOOKS", 0.01)
    attempt = {"n": 1, "at": AT, "status": None, "ms": 7, "error": None, "response": "seq 5"}
    request = {
        "method": "PUBLISH", "url": "queue://h/q", "to": "q", "truncated": False,
        "headers": {"id": "evt_1", "webhook-signature": "***"}, "body": '{"type":"x"}\x1b',
    }  # fmt: skip
    scripted_test(fake, delivery(last_status=None, attempts=[attempt], request=request))
    done = ran(fake, "subscribers", "test", SUB)
    assert (done.code, [line.split(maxsplit=1) for line in done.out.splitlines()]) == (
        0,
        [
            ["delivery", DLV],
            ["sent", "PUBLISH queue://h/q"],
            ["to", "q"],
            ["headers", "id: evt_1"],
            ["webhook-signature:", "***"],
            ["body", '{"type":"x"}\N{REPLACEMENT CHARACTER}'],
            ["answered", "seq 5"],
            ["outcome", "delivered: accepted in 7 ms"],
        ],
    )
