"""The files of a job as a page shows them: where a browser gets them, and until when.

Addresses come from vendors and callers: only those of the web are followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.dashboard import formats

Json = dict[str, Any]

_KINDS = {"videos": "video", "images": "image", "audios": "audio"}
#: Fields of an input that hold images.
_PICTURES = ("image_url", "last_image_url", "image_urls", "static_mask")


@dataclass(frozen=True, slots=True)
class File:
    """An output. `url` is the vendor's, empty if a browser cannot fetch it.

    `needs_key`: the vendor serves it with the account's key alone, so it comes through us.
    """

    kind: str
    number: int
    url: str
    watermark_url: str
    needs_key: bool
    duration: float | None
    expires_at: str | None


def outputs(job: Json) -> list[File]:
    """Return the files of a job, numbered as `GET /v1/jobs/{id}/outputs/{n}` has them."""
    output = job["output"] or {}
    files = [(kind, file) for name, kind in _KINDS.items() for file in output.get(name) or ()]
    return [_file(number, kind, file) for number, (kind, file) in enumerate(files)]


def _file(number: int, kind: str, file: Json) -> File:
    needs_key = bool(file.get("content_url"))
    return File(
        kind=kind,
        number=number,
        url="" if needs_key else formats.web(file["url"]),
        watermark_url=formats.web(file.get("watermark_url")),
        needs_key=needs_key,
        duration=file["duration"],
        expires_at=file["expires_at"],
    )


def pictures(job: Json) -> list[str]:
    """Return the web addresses of the images of a job's input."""
    given = job["input"]
    values = [given.get(name) for name in _PICTURES]
    listed = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [url for one in listed if (url := formats.web(one))]
