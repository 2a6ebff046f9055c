"""Reads what vendors answer: one reader for submissions, status queries and pushes.

Gateways agree on the facts and not on their places, so each fact has a list of places. All input is
hostile: values of a wrong type are left out, texts are capped, and nothing recurses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.foundation.errors import Unreadable
from orchestrator.foundation.json_codec import encode, walk
from orchestrator.foundation.lenient_json import opened
from orchestrator.foundation.states import JobState
from orchestrator.foundation.untrusted import first, instant, name, percent, text
from orchestrator.vendors.error_codes import error_fields, is_error_code, is_success, states_error
from orchestrator.vendors.outputs import EXPIRES, Files, absolute, expiry, files_of
from orchestrator.vendors.report import EXTERNAL_IDS, IDS, Output, Report, Words

Item = Mapping[str, Any]

#: Where an envelope keeps what it is about, and how many lie within each other.
_CONTENTS = (
    "data", "result", "output", "response", "task", "job", "tasks", "jobs", "payload", "items",
    "list",
)  # fmt: skip
#: What an envelope may say about its task beside it: DashScope's `usage`, novita's `videos`.
_BESIDE = ("billing", "usage", "videos", "images", "audios")
_ENVELOPES = 3
_NESTED = (dict, list)
#: What shows that an object with an id of its own is an envelope all the same.
_ENVELOPE_SIGNS = frozenset(("code", "success", "message", "msg", "request_id"))
#: What gateways write for "no task"; also the zero of a number or of a UUID.
_NO_IDS = frozenset(("-1", "null", "none", "nil", "undefined"))
#: An id without a key of its own (`"data": "task-1"`): a word without a digit may be a status.
_BARE_ID = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9_.:-]{1,128}")
#: What only tasks have.
_TASK_SIGNS = frozenset(("task_status", "taskStatus", "task_result", "progress"))
_STATUSES = (
    "task_status", "status", "state", "task_state", "taskStatus", "job_status", "jobStatus",
)  # fmt: skip
#: What a word repeats of its key: `TASK_STATUS_SUCCEED`, `video_generation_failed`.
_KEY_OF_WORD = re.compile(r"(?:(?:task|job|video|generation|status|state)_)+")
_PROGRESS = ("progress", "progress_percent", "percent", "percentage", "task_progress")
_UPDATED = ("updated_at", "update_time", "updatedAt", "updateTime")
#: Charges that have no `billing`: Kling's legacy standard, OpenRouter, new-api.
_CHARGES = (
    "final_unit_deduction", "final_balance_deduction", "usage", "quota", "cost", "credits",
    "credits_used",
)  # fmt: skip
#: Objects of a task that may hold its charge.
_CHARGED = ("meta", "metadata", "output", "result")
_EMPTY: tuple[Any, ...] = (None, "", [], {})
#: Bytes of a charge, and levels of objects and lists.
_BILLING_CAP, _BILLING_DEPTH = 4096, 16
_ITEM_CAP = 512


@dataclass(frozen=True, slots=True)
class Reader:
    """The reader of one account: status words and the base URL differ."""

    words: Words
    base_url: str = ""

    def reports(self, body: Any) -> list[Report]:
        """Return the reports in a parsed body. Raises `Unreadable` if an item is no task."""
        items = task_objects(body)[:_ITEM_CAP]
        # An empty entry of a batch keeps no other from its report.
        entries = [item for item in items if item is not None] or items
        return [self._readable(item, is_alone=len(items) == 1) for item in entries]

    def accepted(self, body: Any) -> tuple[str, Report | None] | None:
        """Return the id of the task that the answer to a submission holds, and what it reports."""
        item = next(iter(task_objects(body)), None)
        if not isinstance(item, dict):
            return None
        if found := task_id(item):
            return found, self.report(item) if status_word(item) else None
        code, _ = error_fields(item)
        if states_error(item) or is_error_code(code):
            return None
        bare = first(_id, item, _CONTENTS)
        return (bare, None) if bare and _BARE_ID.fullmatch(bare) else None

    def _readable(self, item: Any, *, is_alone: bool) -> Report:
        """Return the report of a task object. `status` alone may be that of an error.

        Beside others, an id is enough: the vendor has the task.
        """
        if isinstance(item, dict):
            found = self.report(item)
            if found.word and (
                found.vendor_task_id
                or found.external_task_id
                or not _TASK_SIGNS.isdisjoint(item)
                or any(files_of(item, self.base_url))
            ):
                return found
            if found.vendor_task_id and not is_alone:
                return found
        raise Unreadable("the body holds no task object")

    def report(self, item: Item) -> Report:
        """Return the report in one task object."""
        word = status_word(item)
        state = self.words.get(_normal(word))
        files = self._files(item, state)
        code, message = error_fields(item) if state is JobState.FAILED else (None, None)
        return Report(
            state=state,
            word=word,
            vendor_task_id=task_id(item),
            external_task_id=external_id(item),
            progress=first(percent, item, _PROGRESS),
            videos=files.videos,
            images=files.images,
            audios=files.audios,
            billing=billing(item),
            message=message,
            vendor_code=None if is_success(code) else code,
            updated_at=first(instant, item, _UPDATED),
            expires_at=first(instant, item, EXPIRES),
        )

    def _files(self, item: Item, state: JobState | None) -> Files:
        if state is not JobState.SUCCEEDED:
            return Files()
        files = files_of(item, self.base_url)
        # Old versions of new-api put the URL of a success there.
        address = None if files.videos else absolute(item.get("fail_reason"), self.base_url)
        clip = address and Output(address, expires_at=expiry(address))
        return files._replace(videos=(clip,)) if clip else files


def task_objects(body: Any) -> list[Any]:
    """Return the task objects of a parsed body: an object or a list, bare or in envelopes."""
    for _ in range(_ENVELOPES):
        inner = _content(body) if isinstance(body, dict) else None
        if inner is None:
            break
        if isinstance(inner, dict):
            inner = {**{key: body[key] for key in _BESIDE if key in body}, **inner}
        body = inner
    return body if isinstance(body, list) else [body]


def _content(envelope: Item) -> Item | list[Any] | None:
    """Return what an envelope is about; None if the object is no envelope."""
    for key in _CONTENTS:
        if key not in envelope:
            continue
        inner = opened(envelope[key])
        if isinstance(inner, _NESTED) and _is_inside(envelope, inner):
            return inner
    return None


def _is_inside(outer: Item, inner: Item | list[Any]) -> bool:
    """Return whether a task is in `inner`, and not `outer` itself."""
    is_list, has_status = isinstance(inner, list), bool(status_word(outer))
    entries = [one for one in inner if one is not None] if isinstance(inner, list) else [inner]
    if not all(isinstance(one, dict) for one in entries):
        return False
    if task_id(outer) is None:
        if not is_list and not has_status:
            return True
        # Without a status of its own, an object with an id may be a file of the task.
        return all(
            status_word(one) or (task_id(one) and not (has_status and any(files_of(one, ""))))
            for one in entries
        )
    may_wrap = not has_status or not (is_list or _ENVELOPE_SIGNS.isdisjoint(outer))
    if not may_wrap or "task_id" in outer:
        return False
    return bool(entries) and all(task_id(one) and status_word(one) for one in entries)


def task_id(item: Item) -> str | None:
    """Return the vendor's id of a task object.

    `request_id` is one beside the address of its status, as in the queue of fal;
    elsewhere it names the HTTP request.
    """
    if found := first(_id, item, IDS):
        return found
    other = "request_id" if "status_url" in item else "uuid" if status_word(item) else ""
    return _id(item.get(other))


def _id(value: Any) -> str | None:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    found = name(value)
    return found if found and found.strip("0-") and found.lower() not in _NO_IDS else None


def external_id(item: Item) -> str | None:
    """Return our id in a task object: Kling's legacy standard keeps it in `task_info`."""
    info = item.get("task_info")
    inner = first(name, info, EXTERNAL_IDS) if isinstance(info, dict) else None
    return inner or first(name, item, EXTERNAL_IDS)


def status_word(item: Item) -> str:
    """Return the status word of a task object as the vendor wrote it, without blanks around it."""
    return first(_word, item, _STATUSES) or ""


def _word(value: Any) -> str | None:
    return (text(value) or "").strip() or None


def _normal(word: str) -> str:
    """Return a status word as the tables have it: `In Progress` is `in_progress`."""
    normal = "_".join(word.lower().replace("-", " ").split())
    repeated = _KEY_OF_WORD.match(normal)
    return normal[repeated.end() :] if repeated else normal


def billing(item: Item) -> Any:
    """Return what a task object says about its price, unchanged; None if it says nothing."""
    inner = (item[key] for key in _CHARGED if key in item)
    for place in (item, *(one for one in inner if isinstance(one, dict))):
        charged = place.get("billing")
        if charged in _EMPTY:
            present = [key for key in _CHARGES if key in place]
            charged = {key: place[key] for key in present if place[key] not in _EMPTY}
        if charged:
            return charged if _is_small(charged) else None
    return None


def _is_small(value: Any) -> bool:
    """True for JSON that is short and flat: writers and readers of JSON recurse."""
    if isinstance(value, dict) and not any(isinstance(one, _NESTED) for one in value.values()):
        return len(encode(value)) <= _BILLING_CAP
    # So many values are longer than the cap already.
    for count, (depth, *_) in enumerate(walk(value)):
        if depth > _BILLING_DEPTH or count >= _BILLING_CAP:
            return False
    return len(encode(value)) <= _BILLING_CAP
