"""The timeline of a job in sentences and lanes: pure functions of what the API says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from orchestrator.dashboard import files, formats, lanes, sentences
from orchestrator.dashboard.translations import LANGUAGES, catalogue

CREATED = "2026-11-20T10:00:00.000Z"
JOB: dict[str, Any] = {"id": "job_1", "created_at": CREATED, "output": None, "input": {}}
SAID = [
    ({"kind": "submit", "attempt": 2, "outcome": "begun"}, "good", "Submission 2 begins."),
    ({"kind": "submit", "outcome": "accepted", "vendor_task_id": "t{0}"}, "good",
     "The vendor accepted the job as task t{0}."),
    ({"kind": "submit", "attempt": 1, "outcome": "timeout", "reason": "v: no answer"}, "bad",
     "Submission 1 was not accepted: v: no answer."),
    ({"kind": "push", "outcome": "moved"}, "good",
     "The vendor's push changed the status of the job."),
    ({"kind": "push", "outcome": "nothing_new"}, "plain", "The vendor's push held nothing new."),
    ({"kind": "push", "outcome": "rejected: no signature matches"}, "bad",
     "A push was refused: no signature matches."),
    ({"kind": "push", "outcome": "rejected; not kept: too many"}, "bad",
     "A push was refused: too many."),
    ({"kind": "push", "outcome": "unreadable: no task"}, "bad",
     "A push could not be read: no task. The vendor is asked."),
    ({"kind": "push", "outcome": "new word"}, "good", "A push arrived: new word."),
    ({"kind": "poll", "outcome": "not_found"}, "bad",
     "The vendor answered a status query: it does not know the task."),
    ({"kind": "poll", "outcome": "processing"}, "good",
     "The vendor answered a status query: processing."),
    ({"kind": "poll", "outcome": "refused", "reason": "busy"}, "bad",
     "A status query failed: busy."),
    ({"kind": "move", "to": "failed", "by": "poll"}, "bad",
     "The job is failed, as reported by a status query."),
    ({"kind": "move", "to": "new", "by": "aliens"}, "live",
     "The job is new, as reported by aliens."),
    ({"kind": "event", "type": "job.failed"}, "plain", "The event job.failed is in the log."),
    ({"kind": "delivery", "status": "dead"}, "plain",
     "The event is owed to a subscriber; the delivery is dead now."),
    ({"kind": "attempt", "n": 3, "status": 500, "ms": 12, "error": "x"}, "bad",
     "Attempt 3 was answered with HTTP 500 after 12 ms."),
    ({"kind": "attempt", "n": 1, "status": None, "ms": None, "error": "timeout"}, "bad",
     "Attempt 1 failed after 0 ms: timeout."),
    ({"kind": "operator", "action": "retry", "by": "key_1"}, "plain",
     "An operator retried the job."),
    ({"kind": "operator", "action": "adopt"}, "plain", "An operator acted: adopt."),
    ({"kind": "archive"}, "plain", "An entry of the kind archive."),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "tone", "text"), SAID, ids=lambda value: str(value)[:30])
def test_every_entry_is_a_sentence_with_a_tone(entry: Any, tone: str, text: str) -> None:
    assert sentences.sentence(entry).text(catalogue("en")) == text
    assert lanes.tone(entry) == tone
    for language in LANGUAGES:
        assert sentences.sentence(entry).text(catalogue(language))


def test_details_are_all_other_fields_and_links_lead_to_pages() -> None:
    entry = {"id": "1", "at": CREATED, "kind": "attempt", "delivery": "dlv_1", "n": 1,
             "subscriber": "sub_1", "error": None, "response": "<b>"}  # fmt: skip
    assert sentences.details(entry) == [
        ("delivery", "dlv_1"), ("n", "1"), ("subscriber", "sub_1"), ("response", "<b>")
    ]  # fmt: skip
    assert sentences.links(entry) == [
        ("delivery", "/deliveries/dlv_1"), ("subscriber", "/subscribers/sub_1")
    ]  # fmt: skip


def entry(after: int, kind: str = "push", **more: Any) -> dict[str, Any]:
    """Return an entry some milliseconds after the creation."""
    at = f"2026-11-20T10:{after // 60_000:02d}:{after % 60_000 / 1000:06.3f}Z"
    return {"id": str(after), "at": at, "kind": kind, "outcome": "moved", **more}


def test_lanes_show_milliseconds_beside_minutes() -> None:
    found = [entry(0, "submit"), entry(40, "submit"), entry(180_000),
             entry(180_003, "attempt", ms=900, status=200)]  # fmt: skip
    drawing = lanes.drawn(JOB, found)
    assert drawing.lanes == ("submit", "push", "delivery")
    places = {mark.entry["id"]: mark for mark in drawing.marks}
    ordered = [places[one["id"]].x for one in found]
    assert ordered == sorted(ordered)
    assert ordered[1] > 100
    assert ordered[3] > ordered[2]
    assert all(0 <= mark.x <= mark.x + mark.width <= lanes.WIDTH for mark in drawing.marks)
    labels = [label for _, label in drawing.ticks]
    assert labels[0] == "0 ms"
    assert labels[-1] == "3 min 0.903 s"
    spots = [x for x, _ in drawing.ticks]
    assert all(after - before > 100 for before, after in pairwise(spots))


def test_a_timeline_may_be_empty_or_of_one_instant() -> None:
    assert lanes.drawn(JOB, []).marks == ()
    (mark,) = lanes.drawn(JOB, [entry(0)]).marks
    assert (mark.x, mark.width) == (0.0, lanes.LEAST)


def test_a_bad_mark_is_drawn_over_the_others() -> None:
    found = [entry(5, outcome="rejected: x"), entry(5), entry(5, outcome="nothing_new")]
    assert [mark.tone for mark in lanes.drawn(JOB, found).marks] == ["plain", "good", "bad"]


def test_only_addresses_of_the_web_are_followed() -> None:
    given = {"image_url": "javascript:alert(1)", "image_urls": ["HTTPS://a.example/b", "base64;x"],
             "static_mask": None}  # fmt: skip
    assert files.pictures({"input": given}) == ["HTTPS://a.example/b"]
    file = {"id": None, "duration": None, "expires_at": None, "content_url": None}
    output = {
        "videos": [file | {"url": "data:text/html,x", "watermark_url": "vbscript:x"}],
        "images": [file | {"url": "https://a.example/i"}],
        "audios": [file | {"url": "https://a.example/s", "content_url": "https://us.example/2"}],
    }
    shown = files.outputs({"output": output})
    assert [(one.number, one.kind, one.url, one.needs_key) for one in shown] == [
        (0, "video", "", False), (1, "image", "https://a.example/i", False), (2, "audio", "", True)
    ]  # fmt: skip
    assert shown[0].watermark_url == ""


def test_lengths_are_exact() -> None:
    assert [formats.exact(value) for value in (0, 0.34, 12.345, 182.1042, 7260)] == [
        "0 ms", "340 ms", "12.345 s", "3 min 2.104 s", "2 h 1 min"
    ]  # fmt: skip
