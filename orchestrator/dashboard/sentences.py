"""The timeline of a job in sentences: one for each entry, with where it leads.

Pure functions from entries of the API to keys of the catalogue and their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.dashboard import formats
from orchestrator.dashboard.translations import Catalogue

Json = Mapping[str, Any]

#: Fields of an entry that the other columns show.
_SHOWN = ("id", "at", "kind")
#: Fields of an entry that lead to a page, and the path of that page.
_PAGES = {
    "event": "/events",
    "delivery": "/deliveries",
    "subscriber": "/subscribers",
    "job": "/jobs",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text of the catalogue. `words` are values that are texts of the catalogue themselves."""

    key: str
    values: Mapping[str, object] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    def text(self, texts: Catalogue) -> str:
        """Return the sentence in a language. A word that the catalogue lacks stays as it is."""
        words = {
            name: texts.text(key) if texts.has(key) else key.partition(".")[2]
            for name, key in self.words.items()
        }
        return texts.text(self.key, **self.values, **words)


def sentence(entry: Json) -> Sentence:
    """Return what happened. A kind that is not known here is named."""
    tell = _KINDS.get(entry["kind"])
    return tell(entry) if tell else Sentence("way.other", {"kind": entry["kind"]})


def links(entry: Json) -> list[tuple[str, str]]:
    """Return the names of what an entry is about, and the paths of their pages."""
    return [
        (name, f"{path}/{entry[name]}")
        for name, path in _PAGES.items()
        if isinstance(entry.get(name), str)
    ]


def details(entry: Json) -> list[tuple[str, str]]:
    """Return the fields of an entry as the API names them, with their values to read."""
    return [
        (name, value if isinstance(value, str) else formats.readable(value))
        for name, value in entry.items()
        if name not in _SHOWN and value is not None
    ]


def _submit(entry: Json) -> Sentence:
    outcome = str(entry.get("outcome"))
    values = {
        "attempt": entry.get("attempt") or 1,
        "task": entry.get("vendor_task_id") or "",
        "why": entry.get("reason") or outcome,
    }
    known = outcome if outcome in _SUBMISSIONS else "refused"
    return Sentence(f"way.submit.{known}", values)


#: Outcomes of submissions with a sentence of their own.
_SUBMISSIONS = frozenset(
    {"begun", "accepted", "found", "not_found", "not_found_resend", "others_found", "resend"}
    | {"waiting_for_push", "postponed", "cannot_be_asked"}
)


def _push(entry: Json) -> Sentence:
    outcome = str(entry.get("outcome"))
    for kind in ("rejected", "unreadable"):
        if outcome.startswith(kind):
            return Sentence(f"way.push.{kind}", {"why": outcome.partition(": ")[2] or outcome})
    if outcome in _PUSHES:
        return Sentence(f"way.push.{outcome}")
    return Sentence("way.push.other", {"outcome": outcome})


#: Effects of pushes with a sentence of their own.
_PUSHES = frozenset(
    {"moved", "updated", "nothing_new", "contradicts", "unconfirmed", "unknown_word", "no_output"}
)


def _poll(entry: Json) -> Sentence:
    if entry.get("reason"):
        return Sentence("way.poll.failed", {"why": entry["reason"]})
    if entry.get("outcome") == "not_found":
        return Sentence("way.poll.not_found")
    return Sentence("way.poll.answered", {"word": entry.get("outcome")})


def _move(entry: Json) -> Sentence:
    if not entry.get("by"):
        return Sentence("way.move.alone", words={"status": f"status.{entry['to']}"})
    words = {"status": f"status.{entry['to']}", "source": f"source.{entry['by']}"}
    return Sentence("way.move", words=words)


def _event(entry: Json) -> Sentence:
    return Sentence("way.event", {"type": entry.get("type")})


def _delivery(entry: Json) -> Sentence:
    return Sentence("way.delivery", words={"status": f"status.{entry.get('status')}"})


def _attempt(entry: Json) -> Sentence:
    values = {
        "n": entry.get("n"),
        "status": entry.get("status"),
        "span": formats.milliseconds(entry.get("ms")) or "0 ms",
        "why": entry.get("error"),
    }
    if entry.get("status") is None:
        return Sentence("way.attempt.failed", values)
    return Sentence("way.attempt.answered", values)


def _operator(entry: Json) -> Sentence:
    action = entry.get("action")
    if action in ("cancel", "retry"):
        return Sentence(f"way.operator.{action}")
    return Sentence("way.operator.other", {"action": action})


_KINDS: Mapping[str, Callable[[Json], Sentence]] = {
    "submit": _submit,
    "push": _push,
    "poll": _poll,
    "move": _move,
    "event": _event,
    "delivery": _delivery,
    "attempt": _attempt,
    "operator": _operator,
}
