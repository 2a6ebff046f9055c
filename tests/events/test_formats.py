"""The forms of an event, read by the public library of CloudEvents."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cloudevents.v1.http import from_json

from orchestrator.events import formats
from orchestrator.events.destinations import Message
from tests.events.test_destinations import JOB, http, message, target

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def with_members(**members: Any) -> Message:
    sent = message(job_id=JOB["id"])
    return replace(sent, body=json.dumps({**sent.data, **members}).encode())


def test_the_standard_form_is_the_event_byte_for_byte() -> None:
    assert formats.encoded(target(), message()) == (message().body, "application/json")
    unknown = target(options={"format": "of a later version"})
    assert formats.encoded(unknown, message()).body == message().body


def test_a_cloudevent_carries_the_event_in_its_own_envelope() -> None:
    to, sent = target(options={"format": "cloudevents"}), message(job_id=JOB["id"])
    body, content_type = formats.encoded(to, sent)
    assert content_type == "application/cloudevents+json"
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "orchestrator",
        "type": "job.succeeded",
        "time": "2026-11-20T10:02:14.000Z",
        "subject": JOB["id"],
        "datacontenttype": "application/json",
        "sequence": "0000000003",
        "partitionkey": JOB["id"],
        "data": JOB,
    }
    request = http("webhook").request(to, sent)
    assert (request.content, request.headers["content-type"]) == (body, content_type)


@pytest.mark.parametrize("members", [{}, {"late": True, "traceparent": TRACE}])
def test_the_public_library_reads_a_cloudevent_with_its_extensions(members: dict[str, Any]) -> None:
    sent = with_members(**members)
    read = from_json(formats.encoded(target(options={"format": "cloudevents"}), sent).body)
    assert (read["id"], read["type"], read.data) == ("evt_1", "job.succeeded", JOB)
    assert (read["sequence"], read["partitionkey"]) == ("0000000003", JOB["id"])
    for name, value in members.items():
        assert read[name] == value


def test_sequences_are_ordered_as_text() -> None:
    made = [formats.cloudevent(with_members(sequence=n))["sequence"] for n in (2, 10, 1)]
    assert sorted(made) == [made[2], made[0], made[1]]


@pytest.mark.parametrize("body", [{}, {"data": None, "sequence": None, "traceparent": 1}])
def test_a_flawed_event_has_the_attributes_that_it_can_have(body: dict[str, Any]) -> None:
    made = formats.cloudevent(replace(message(), body=json.dumps(body).encode()))
    assert made.keys() & {"subject", "sequence", "partitionkey", "traceparent", "late"} == set()


def test_the_binary_mode_has_attributes_as_text_beside_the_data() -> None:
    attributes, data = formats.binary(with_members(late=True))
    assert json.loads(data) == JOB
    assert attributes == {
        "specversion": "1.0", "id": "evt_1", "source": "orchestrator", "type": "job.succeeded",
        "time": "2026-11-20T10:02:14.000Z", "subject": JOB["id"], "sequence": "0000000003",
        "partitionkey": JOB["id"], "late": "true",
    }  # fmt: skip
    flawed = replace(message(), body=b"{}")
    assert formats.binary(flawed)[1] == b"null"
    assert "time" not in formats.binary(flawed)[0]
