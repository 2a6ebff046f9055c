"""What every publisher promises without a broker; `tests/brokers` has the rest."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.events.destinations import Publisher, Target
from orchestrator.foundation.extras import EXTRAS
from orchestrator.foundation.states import EventType
from tests.events.test_destinations import FAILED, FLAWS, JOB, KINDS, SUBSCRIBER, message

EACH = pytest.mark.parametrize(
    "kind", sorted(kind for kind, one in KINDS.items() if isinstance(one, Publisher))
)


def publisher(kind: str) -> Publisher:
    found = KINDS[kind]
    assert isinstance(found, Publisher)
    return found


@EACH
@pytest.mark.parametrize("data", [JOB, FAILED, SUBSCRIBER, *FLAWS])
def test_every_event_becomes_a_message_with_its_id_and_without_a_secret(
    kind: str, data: dict[str, Any]
) -> None:
    of = publisher(kind)
    to = Target(of.example, credentials=dict.fromkeys(of.credentials, "hush-hush"))
    for event in EventType:
        sent = message(event, data, job_id=JOB["id"])
        made = of.encode(to, sent)
        assert (made.id, made.key) == ("evt_1", JOB["id"])
        assert made.to
        assert made.body
        assert "evt_1" in f"{made.headers}{made.body!r}", "a consumer finds the id"
        assert "hush" not in f"{made.to}{made.headers}{made.body!r}"
        assert made == of.encode(to, sent), "a repeat is the same message"


@EACH
def test_the_example_is_an_address_of_this_kind_alone(kind: str) -> None:
    of = publisher(kind)
    of.check_address(of.example)
    assert of.example.partition(":")[0] in of.schemes
    assert [name for name, one in KINDS.items() if one.recognizes(of.example)] in ([], [kind])


@EACH
def test_the_extra_that_brings_its_library_is_known(kind: str) -> None:
    assert publisher(kind).extra in {"", *EXTRAS}
