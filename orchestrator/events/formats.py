"""Forms in which an event is written: one registry for all kinds with the option `format`.

`cloudevents` is the JSON format of CloudEvents 1.0.2, with the extensions `sequence` (its place
among the events of its job), `partitionkey` (its job) and `traceparent`:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
https://github.com/cloudevents/spec/tree/main/cloudevents/extensions
A kind sends it in the structured mode of its binding; one with a binary mode takes `binary`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from orchestrator.events.destinations import Message, Option, Target
from orchestrator.foundation.json_codec import encode

_SOURCE: Final = "orchestrator"
#: Digits of `sequence`: its values are ordered as text.
_DIGITS: Final = 10


class Encoded(NamedTuple):
    """The content of a message."""

    body: bytes
    content_type: str


def encoded(target: Target, message: Message) -> Encoded:
    """Return the event in the form that a subscriber has chosen."""
    return FORMATS.get(target.options.get("format", ""), _standard)(message)


def cloudevent(message: Message) -> dict[str, Any]:
    """Return the event as a CloudEvent: its attributes, and `data`."""
    event = message.data
    data = event.get("data")
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": message.event_id,
        "source": _SOURCE,
        "type": message.type,
        "time": event.get("timestamp"),
        "datacontenttype": "application/json",
    }
    if isinstance(data, Mapping) and isinstance(data.get("id"), str):
        found["subject"] = data["id"]
    if isinstance(sequence := event.get("sequence"), int):
        found["sequence"] = f"{sequence:0{_DIGITS}}"
    if message.job_id is not None:
        found["partitionkey"] = message.job_id
    if isinstance(trace := event.get("traceparent"), str):
        found["traceparent"] = trace
    if event.get("late"):
        found["late"] = True
    return found | {"data": data}


def binary(message: Message) -> tuple[dict[str, str], bytes]:
    """Return the attributes of a CloudEvent as text, and its data, for a binding's binary mode.

    Without `datacontenttype`, which is the content type of the message.
    """
    found = cloudevent(message)
    data = encode(found.pop("data"))
    del found["datacontenttype"]
    return {name: _text(value) for name, value in found.items() if value is not None}, data


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _standard(message: Message) -> Encoded:
    """The stored event, byte for byte."""
    return Encoded(message.body, "application/json")


def _cloudevents(message: Message) -> Encoded:
    return Encoded(encode(cloudevent(message)), "application/cloudevents+json")


#: By the word of the option; the first is the default.
FORMATS: Final[Mapping[str, Callable[[Message], Encoded]]] = MappingProxyType(
    {"standard": _standard, "cloudevents": _cloudevents}
)
#: The option, for kinds that have it.
OPTION: Final = Option("The form of the body.", choices=tuple(FORMATS))
