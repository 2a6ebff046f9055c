"""Odd shapes: answers and pushes as gateways really write them.

Each has the meaning of the documented one. Reports of such shapes:
https://github.com/QuantumNous/new-api/issues/4834 (addresses of clips),
https://docs.laozhang.ai/en/api-capabilities/veo/quick-start (envelopes),
https://github.com/ArcReel/ArcReel/issues/1888 (status words),
https://github.com/BerriAI/litellm/issues/36483 (progress),
https://github.com/com-lihaoyi/upickle/issues/522 (ids).
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from orchestrator.simulator.json_body import JSON, JsonObject, object_at, objects_at, string_at

Change: TypeAlias = Callable[[JsonObject, random.Random], None]

#: Envelopes around the data of an answer or push. Documented are no envelope, or Kling's.
ENVELOPES: Final[tuple[Callable[[JSON], JSON], ...]] = (
    lambda data: data,
    lambda data: {"success": True, "data": data},
    lambda data: {"code": "OK", "message": "", "data": data},
    lambda data: {"code": 200, "msg": "success", "data": data},
    lambda data: {"status": "success", "message": "ok", "data": data},
    lambda data: data if isinstance(data, list) else {"code": 0, "data": [data]},
    lambda data: data if isinstance(data, list) else [data],
    lambda data: data if isinstance(data, list) or "data" in _keys(data) else _beside_null(data),
    lambda data: {"code": 0, "message": "ok", "data": json.dumps(data)},
    lambda data: {"code": 0, "result": data},
    lambda data: {"Response": _pascal(data)},
)
SUCCESS: Final = (" SUCCEEDED ", "Succeed", "SUCCESS", "completed\n", "TASK_STATUS_SUCCEED")
FAILURE: Final = ("fail", "FAIL", " Failed", "FAILURE", "task_failed")
#: Other spellings of final status words, by the word in lower case.
SPELLINGS: Final = {
    **dict.fromkeys(("succeed", "succeeded", "success", "completed"), SUCCESS),
    **dict.fromkeys(("failed", "failure"), FAILURE),
}
URL_KEYS: Final = ("url", "video_url", "result_url")
#: Where the files of a task stand. Documented are `task_result.videos`, `output.videos`, `outputs`.
FILE_PLACES: Final[tuple[Callable[[JSON], JsonObject], ...]] = (
    lambda files: {"works": files},
    lambda files: {"videos": files},
    lambda files: {"output": {"works": files}},
    lambda files: {"output": {"videos": files}},
    lambda files: {"task_result": {"videos": files}},
)
#: Where the URL of a video object stands. Documented are `metadata.url` and `video_url`.
URL_PLACES: Final[tuple[Callable[[str], JsonObject], ...]] = (
    lambda url: {"url": url},
    lambda url: {"video_url": url},
    lambda url: {"result_url": url},
    lambda url: {"output": {"url": url}},
    lambda url: {"output": {"video_url": url}},
    lambda url: {"video_urls": [url]},
    lambda url: {"output": [url]},
    lambda url: {"works": [{"url": url}]},
)
ENCODINGS: Final[tuple[tuple[str, Callable[[bytes], bytes]], ...]] = (
    ("gzip", lambda content: gzip.compress(content, mtime=0)),
    ("deflate", zlib.compress),
)
BOM: Final = b"\xef\xbb\xbf"


def odd_body(body: JSON, rng: random.Random, origin: str = "") -> JSON:
    """Return a body in another shape. A body without a task is unchanged.

    URLs at `origin`, the scheme and host of the vendor's base URL, may become relative.
    """
    data = _data(body)
    tasks = data if isinstance(data, list) else [data]
    if not tasks or not all(_is_task(task) for task in tasks):
        return body
    changes: list[Change] = [*CHANGES, partial(relate_urls, origin=origin), pad_urls]
    copies = [json.loads(json.dumps(task)) for task in tasks]
    for task in copies:
        for change in changes:
            if rng.random() < 0.5:
                change(task, rng)
    return rng.choice(ENVELOPES)(copies if isinstance(data, list) else copies[0])


def odd_answer(body: JSON, rng: random.Random, origin: str = "") -> tuple[bytes, dict[str, str]]:
    """Return content and headers of an answer: an odd body, with NaN, a BOM, or compressed."""
    odd = odd_body(body, rng, origin)
    if isinstance(odd, dict) and rng.random() < 0.3:
        odd = {**odd, "score": float(rng.choice(("nan", "inf")))}
    content = json.dumps(odd, ensure_ascii=False).encode()
    headers = {"content-type": "application/json"}
    if rng.random() < 0.2:
        content = BOM + content
    if rng.random() < 0.3:
        headers["content-encoding"], compress = rng.choice(ENCODINGS)
        content = compress(content)
    return content, headers


def _keys(data: JSON) -> frozenset[str]:
    return frozenset(data) if isinstance(data, dict) else frozenset()


def _data(body: JSON) -> JSON:
    """Return what a documented envelope holds, or the body itself."""
    return body["data"] if isinstance(body, dict) and {"code", "data"} <= _keys(body) else body


def _is_task(data: JSON) -> bool:
    return bool(_keys(data) & {"status", "task_status"})


def _beside_null(data: JSON) -> JSON:
    return {**data, "code": 0, "data": None} if isinstance(data, dict) else data


def _pascal(data: JSON) -> JSON:
    """Return a document with keys in PascalCase: `task_id` as `TaskId`."""
    if isinstance(data, list):
        return [_pascal(one) for one in data]
    if not isinstance(data, dict):
        return data
    return {key.title().replace("_", ""): _pascal(value) for key, value in data.items()}


# -- changes of one task


def spell_status(task: JsonObject, rng: random.Random) -> None:
    """Write the status word in another case, with blanks, or as a synonym."""
    for key in ("status", "task_status"):
        if word := string_at(task, key):
            task[key] = rng.choice(SPELLINGS.get(word.lower(), (word.upper(), f" {word} ")))


def write_progress(task: JsonObject, rng: random.Random) -> None:
    """Write the progress, a percentage, as a fraction, a text or a float."""
    given = task.get("progress")
    if not isinstance(given, int | str):
        return
    percent = int(str(given).rstrip("%"))
    forms: tuple[JSON, ...] = (f"{percent}%", str(percent), float(percent), percent / 100)
    # 0 and 1 mean the same as a fraction and a percentage, or not: 1.0 may be all of it.
    task["progress"] = rng.choice(forms if 1 < percent < 100 else forms[:2])


def number_ids(task: JsonObject, rng: random.Random) -> None:
    """Write an id of digits as a number, however large."""
    for key in ("id", "task_id"):
        if (given := string_at(task, key)) and given.isdecimal() and given[0] != "0":
            task[key] = int(given)


def move_files(task: JsonObject, rng: random.Random) -> None:
    """Move the list of files elsewhere, and rename the URL in each."""
    for container, key in (
        (object_at(task, "task_result"), "videos"),
        (object_at(task, "output"), "videos"),
        (task, "outputs"),
    ):
        files = objects_at(container, key)
        if any(string_at(file, "url") for file in files):
            del container[key]
            name = rng.choice(URL_KEYS)
            renamed: list[JSON] = [
                {name if field == "url" else field: value for field, value in file.items()}
                for file in files
            ]
            task.update(rng.choice(FILE_PLACES)(renamed))
            return


def move_url(task: JsonObject, rng: random.Random) -> None:
    """Move the URL of a video object elsewhere."""
    metadata = object_at(task, "metadata")
    url = string_at(metadata, "url") or string_at(task, "video_url")
    if url and not objects_at(task, "outputs"):
        for container, key in ((metadata, "url"), (task, "video_url"), (task, "result")):
            container.pop(key, None)
        task.update(rng.choice(URL_PLACES)(url))


def relate_urls(task: JsonObject, rng: random.Random, origin: str) -> None:
    """Make URLs at the vendor's origin relative."""
    if origin:
        _map_urls(
            task, lambda url: url.removeprefix(origin) if url.startswith(f"{origin}/") else url
        )


def pad_urls(task: JsonObject, rng: random.Random) -> None:
    """Put blanks around URLs."""
    pad = rng.choice((" {}", "{}\n", " {}\n", "\t{} "))
    _map_urls(task, pad.format)


CHANGES: Final[tuple[Change, ...]] = (
    spell_status, write_progress, number_ids, move_files, move_url,
)  # fmt: skip


def _map_urls(value: JSON, change: Callable[[str], str]) -> JSON:
    """Change every http(s) URL in a document, in place; return what replaces `value`."""
    if isinstance(value, str):
        return change(value) if value.startswith(("http://", "https://")) else value
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = _map_urls(item, change)
    elif isinstance(value, list):
        value[:] = [_map_urls(item, change) for item in value]
    return value
