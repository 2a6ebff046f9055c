"""Notifications: an event in words, of which every sentence is whole and every command exists."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from orchestrator.api.openapi.examples import DATA
from orchestrator.cli import app
from orchestrator.events.notices import ADVICE
from orchestrator.events.notification import Fact, Link, Severity, notification
from orchestrator.foundation.markup import markup_url, valid_url
from orchestrator.foundation.states import EventType
from tests.events.test_destinations import FAILED, FLAWS, JOB, message

PAGE = "https://orchestrator.example.com/dashboard/shared/a.b"
TROUBLE: dict[str, Any] = {
    "object": "account",
    "name": "main",
    "reason": "unauthorized",
    "since": "2026-11-20T09:28:14.000Z",
    "message": "kling answered 401, code 1002",
    "paused_until": None,
}


def test_a_ready_video_says_what_was_asked_how_long_it_took_and_where_it_is() -> None:
    note = notification(message(job_page=PAGE))
    assert note.text == "✅ Video ready — a cat surfing"
    assert note.severity is Severity.GOOD
    assert note.facts == (
        Fact("Model", "kling-v3 · cloudsway"),
        Fact("Video", "5.041 s · 1080p"),
        Fact("Took", "2 min 14 s (push)"),
    )
    assert note.links == (Link("Watch video", "https://cdn/v.mp4"), Link("Timeline", PAGE))
    assert note.image == "https://cdn/v.jpg"


def test_a_failure_has_the_vendors_words_and_what_to_do() -> None:
    error = {
        "code": "vendor_failed",
        "message": "the render failed",
        "vendor_code": 1301,
        "vendor_message": "risk control",
    }
    note = notification(message("job.failed", FAILED | {"error": error, "vendor_task_id": "9019"}))
    assert (note.error, note.error_code) == ("risk control", "vendor_failed · 1301")
    assert note.next_step.endswith(f"orchestrator jobs retry {JOB['id']}")
    assert Fact("Vendor's task", "9019") in note.facts


def test_an_operators_event_has_since_when_its_meaning_and_the_next_step() -> None:
    note = notification(message("account.unauthorized", TROUBLE))
    assert note.title == "The vendor refuses the key of account main; its jobs wait"
    assert note.summary == "kling answered 401, code 1002"
    assert "held for 34 min, since 2026-11-20 09:28 UTC." in note.meaning
    assert note.next_step.endswith("orchestrator accounts check main")
    count = {"object": "account", "name": "main", "completions_without_push": 3}
    note = notification(message("account.push_degraded", count))
    assert note.meaning.startswith("3 jobs in a row completed without a push.")


@pytest.mark.parametrize("kind", list(EventType))
@pytest.mark.parametrize("flaw", [None, *FLAWS])
def test_every_event_reads_as_whole_sentences(kind: str, flaw: dict[str, Any] | None) -> None:
    note = notification(message(kind, DATA[kind] if flaw is None else flaw))
    assert note.icon
    assert note.title
    sentences = note.title + note.meaning + note.next_step
    assert not re.search(r"[{}]|\bNone\b|  ", sentences)
    if flaw is None:
        assert not re.search(r" [.,:;]|: $", sentences)


def _commands(group: Any) -> set[str]:
    found = set()
    for name, command in group.commands.items():
        found |= {f"{name} {sub}" for sub in getattr(command, "commands", ())} or {name}
    return found


def test_every_command_that_is_recommended_exists() -> None:
    known = _commands(typer.main.get_command(app))
    notes = [notification(message(kind, DATA[kind])) for kind in EventType]
    failed = DATA["job.failed"]
    notes += [
        notification(message("job.failed", failed | {"error": {"code": code, "message": "no"}}))
        for code in ADVICE
    ]
    steps = [note.next_step for note in notes if "orchestrator " in note.next_step]
    assert len(steps) > 8
    for step in steps:
        words = step.partition("orchestrator ")[2].split()
        assert {words[0], " ".join(words[:2])} & known, step


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("account.unauthorized", "account.recovered"),
        ("account.push_degraded", "account.push_recovered"),
        ("subscriber.failing", "subscriber.recovered"),
        ("job.failed", "job.succeeded"),
        ("job.stuck", "job.succeeded"),
    ],
)
def test_what_ends_an_incident_has_its_key(first: str, last: str) -> None:
    begun, over = (notification(message(kind, DATA[kind])) for kind in (first, last))
    assert begun.incident == over.incident
    assert not begun.is_over
    assert over.is_over


def test_the_troubles_of_an_account_are_incidents_of_their_own() -> None:
    kinds = ("account.paused", "account.unauthorized", "account.push_degraded")
    assert len({notification(message(kind, DATA[kind])).incident for kind in kinds}) == 3


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://cdn/a b.mp4", "https://cdn/\u202e.mp4", 5, None, {}]
)
def test_what_is_no_web_address_is_no_link(url: Any) -> None:
    files = [{"url": url, "duration": None, "expires_at": None}]
    job = JOB | {"output": {"videos": files, "images": files}}
    note = notification(message(data=job))
    assert (note.links, note.image, note.expires_at) == ((), "", None)


def test_a_file_that_needs_a_key_is_no_link() -> None:
    file = {"url": "https://vendor/v.mp4", "content_url": "https://us/v1/jobs/1/outputs/0"}
    job = JOB | {"output": {"videos": [file], "images": [file]}}
    assert notification(message(data=job)).links == ()


def test_an_address_within_markup_cannot_end_it() -> None:
    assert markup_url('https://a/b?c=(d)&e=[f]<g>"`') == (
        "https://a/b?c=%28d%29&e=%5Bf%5D%3Cg%3E%22%60"
    )


def test_a_web_address_is_one_by_its_grammar() -> None:
    assert valid_url("https://cdn/a|b%2F%#c#d") == "https://cdn/a%7Cb%2F%25#c%23d"
    assert valid_url("http://[::1]:8000/(a)?b='c'@") == "http://[::1]:8000/(a)?b='c'@"
