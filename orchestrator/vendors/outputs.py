"""The files of a result, wherever a vendor's task object names them.

Lists of files come first (`videos`, `outputs`, `works`), then single addresses (`video_url`, `url`,
`result_url`, any other `*_url`). Input that a vendor repeats, covers and previews are no result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urljoin, urlsplit

from orchestrator.foundation.lenient_json import opened
from orchestrator.foundation.untrusted import first, instant, name, seconds, text, url
from orchestrator.vendors.report import Output

Item = Mapping[str, Any]

_CAP = 32
#: Objects of a task that hold its result, and how deep one may lie within another.
_HOLDERS = (
    "task_result", "output", "result", "data", "response", "content", "metadata", "video", "file",
    "assets", "outputs", "results", "videos", "video_info", "videoInfo", "result_json",
    "resultJson",
)  # fmt: skip
_HOLDER_KEYS = frozenset(_HOLDERS)
_DEPTH = 4
#: Lists of files, by what is in them. `outputs` and the like hold any kind.
_LISTS = {
    "videos": "video", "video_urls": "video", "video": "video", "images": "image",
    "audios": "audio",
    "outputs": "", "results": "", "works": "", "files": "", "creations": "", "generated": "",
    "generations": "", "urls": "", "output": "", "result": "", "data": "", "task_result": "",
}  # fmt: skip
_RANKS = {key: rank for rank, key in enumerate(_LISTS)}
#: Any other key of a list of addresses.
_ANY_LIST = ("_urls", "Urls")
#: Addresses of one file, the most telling first; then any other key that ends in `_url`.
_ADDRESSES = (
    "video_url", "url", "result_url", "videoUrl", "resultUrl", "output_url", "download_url",
    "resource_without_watermark", "resource", "url_without_watermark", "file_url", "output",
    "result", "video", "data", "uri", "video_uri", "download_link", "url_mp3", "url_wav",
)  # fmt: skip
_ANY_ADDRESS = re.compile(r"(?:_url|Url)$")
#: Addresses that are no result: what was sent, what shows a still, where to ask.
_NO_RESULT = re.compile(
    r"image|img|cover|thumb|poster|frame|preview|audio|mask|input|origin|(?<!re)source|reference"
    r"|(?<!without)(?<!without_)(?<!no_)watermark"
    r"|callback|hook|notify|poll|response|status|query|cancel|stream|logs?_|share|page|docs"
    r"|self|support|help|web_|detail|dashboard|console|task_|tail|avatar|logo|icon|gif|webp|upload",
    re.IGNORECASE,
)
_WATERMARKED = (
    "watermark_url", "watermarkUrl", "watermark_video_url", "url_with_watermark", "watermarked_url",
)  # fmt: skip
#: When the files of an object stop working.
EXPIRES = ("expires_at", "expire_at", "expired_at", "expiresAt", "expire_time", "expiration")
_EXPIRY_KEYS = frozenset(EXPIRES)
_ENDINGS = {
    "image": re.compile(r"\.(?:png|jpe?g|webp|gif|bmp)$", re.IGNORECASE),
    "audio": re.compile(r"\.(?:mp3|wav|m4a|aac|flac|ogg|opus)$", re.IGNORECASE),
}


class Files(NamedTuple):
    """The files of a result by kind."""

    videos: tuple[Output, ...] = ()
    images: tuple[Output, ...] = ()
    audios: tuple[Output, ...] = ()


def files_of(item: Item, base_url: str) -> Files:
    """Return the files of a task object; relative addresses are below `base_url`."""
    found: dict[str, dict[str, Output]] = {"video": {}, "image": {}, "audio": {}}
    holders = _holders(item)
    for holder in holders:
        for kind, entry in _entries(holder):
            # What stands in the task object itself, beside the prompt, repeats the request.
            is_input = kind == "image" and holder is item
            file = None if is_input else _file(entry, holder, item, base_url)
            sort = file and (kind or _kind(entry, file))
            if file and sort:
                found[sort].setdefault(file.url, file)
    if not found["video"]:
        single = next(filter(None, (_single(one, item, base_url) for one in holders)), None)
        found["video"] = {single.url: single} if single else {}
    if len(found["video"]) == 1:
        # The length of the clip stands beside the list.
        ((address, file),) = found["video"].items()
        if file.duration is None:
            found["video"][address] = file._replace(duration=seconds(item.get("seconds")))
    for holder in holders[1:]:
        if "audio_url" in holder and holder is not item.get("metadata"):
            sound = _output(absolute(holder["audio_url"], base_url), base_url, holder)
            if sound:
                found["audio"].setdefault(sound.url, sound)
    return Files(*[tuple(found[kind].values())[:_CAP] for kind in ("video", "image", "audio")])


def _holders(item: Item) -> list[Item]:
    """Return the task object, and the objects in it that may hold its result, level by level."""
    found, level = [item], [item]
    for _ in range(_DEPTH - 1):
        inner = []
        for one in level:
            if not _HOLDER_KEYS.isdisjoint(one):
                inner += [opened(one[key]) for key in _HOLDERS if key in one]
        level = [one for one in inner if isinstance(one, dict)]
        if not level:
            break
        found += level
    return found


def _entries(holder: Item) -> Iterator[tuple[str, Any]]:
    """Yield the entries of the lists of files in an object, and their kind; "" where it is open."""
    keys = [key for key in holder if key in _LISTS or key.endswith(_ANY_LIST)]
    if len(keys) > 1:
        keys.sort(key=lambda key: _RANKS.get(key, len(_RANKS)))
    for key in keys:
        is_result = key in _LISTS or not _NO_RESULT.search(key)
        if is_result and isinstance(entries := opened(holder[key]), list):
            kind = _LISTS.get(key, "")
            for one in entries[:_CAP]:
                if isinstance(one, str | dict):
                    yield kind, one


def _kind(entry: Any, file: Output) -> str:
    """Return what an entry of a mixed list is, by its `type` or by the ending of its address.

    Empty for what is no result, such as a thumbnail.
    """
    stated = (text(entry.get("type")) or "") if isinstance(entry, dict) else ""
    kind = stated.partition("/")[0].lower()
    if kind in ("video", "image", "audio"):
        return kind
    if _NO_RESULT.search(stated):
        return ""
    path = urlsplit(file.url).path
    return next((kind for kind, ending in _ENDINGS.items() if ending.search(path)), "video")


def _file(entry: Any, holder: Item, item: Item, base_url: str) -> Output | None:
    """Return the file that an entry of a list is: an address, or an object with one."""
    if isinstance(entry, str):
        return _output(absolute(entry, base_url), base_url, holder, item)
    inner = entry.get("video")
    work = inner if isinstance(inner, dict) else entry
    address = _address(work, base_url)
    length = seconds(work.get("duration"))
    if length is not None and "resource" in work:
        # The only kind of entry that counts milliseconds.
        length /= 1000
    return _output(address, base_url, work, holder, item, id=name(work.get("id")), duration=length)


def _single(holder: Item, item: Item, base_url: str) -> Output | None:
    """Return the file at a single address of an object. `seconds` is the length of the clip.

    A `duration` beside the status word may be how long the task took.
    """
    stated = item.get("seconds")
    if stated is None and holder is not item:
        stated = holder.get("duration")
    return _output(_address(holder, base_url), base_url, holder, item, duration=seconds(stated))


def _address(holder: Item, base_url: str) -> str | None:
    """Return the address of a clip in an object; of a watermarked one if it has no other."""
    for key in _ADDRESSES:
        if key in holder and (found := absolute(_only(holder[key]), base_url)):
            return found
    others = [key for key in holder if _ANY_ADDRESS.search(key) and not _NO_RESULT.search(key)]
    addresses = (absolute(holder.get(key), base_url) for key in (*others, *_WATERMARKED))
    return next(filter(None, addresses), None)


def _only(value: Any) -> Any:
    """Return the address in a list of one, or in an object that holds nothing else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value.get("url") if isinstance(value, dict) and len(value) == 1 else value


def _output(
    address: str | None,
    base_url: str,
    *holders: Item,
    id: str | None = None,
    duration: float | None = None,
) -> Output | None:
    """Return a file with what the objects around its address say about it, the nearest first."""
    if address is None:
        return None
    nearest = holders[0]
    marked = ("resource",) if "resource_without_watermark" in nearest else _WATERMARKED
    watermark = first(lambda value: absolute(value, base_url), nearest, marked)
    end = None
    for holder in holders:
        if end is None and not _EXPIRY_KEYS.isdisjoint(holder):
            end = first(instant, holder, EXPIRES)
    needs_key = _is_within(address, base_url)
    return Output(address, id, duration, end or expiry(address), watermark, needs_key)


#: The start of an address that surely has a host.
_PLAIN = re.compile(r"https?://[a-z0-9.-]*[a-z0-9](?::[0-9]{1,5})?[/?#]", re.IGNORECASE | re.ASCII)


def absolute(value: Any, base_url: str) -> str | None:
    """Return an http(s) URL without blanks around it. A path becomes one below the base URL."""
    if not isinstance(value, str):
        return None
    address = value.strip()
    try:
        if address.startswith("/") and address != "/":
            address = _joined(base_url, address)
        found = url(address)
        # To split an address costs more than all else that is read of a file.
        return found if found and (_PLAIN.match(found) or urlsplit(found).hostname) else None
    except ValueError:
        return None


def _joined(base_url: str, path: str) -> str:
    """Return the URL of a path, which a gateway behind a prefix states with or without it."""
    prefix = urlsplit(base_url).path.rstrip("/")
    if path.startswith(("//", f"{prefix}/")):
        return urljoin(base_url, path)
    return base_url.rstrip("/") + path


def _is_within(address: str, base_url: str) -> bool:
    """Return whether two URLs have one origin."""
    base = urlsplit(base_url.lower())
    if base.netloc not in address.lower():
        return False
    return urlsplit(address.lower())[:2] == base[:2]


_KS_TIME = re.compile(r"[?&]ksTime=([0-9a-fA-F]{8})(?:&|$)")
#: The earliest end of a URL that is one: smaller numbers are seconds that it lasts.
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)


def expiry(address: str) -> datetime | None:
    """Return when a URL stops working, if it says so.

    `ksTime` of Kling's CDN is hexadecimal Unix seconds. Presigned URLs have `X-Amz-Date` and
    `X-Amz-Expires` (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html),
    other clouds their own prefix, or `Expires` in Unix seconds. Azure's `se` is an ISO 8601 text.
    """
    if found := _KS_TIME.search(address):
        return datetime.fromtimestamp(int(found[1], 16), UTC)
    if "xpires" not in address and "&sig=" not in address:
        return None
    query = {key.lower(): values[0] for key, values in parse_qs(urlsplit(address).query).items()}
    for prefix in ("x-amz", "x-goog", "x-tos", "x-oss"):
        try:
            signed = datetime.strptime(query[f"{prefix}-date"], "%Y%m%dT%H%M%S%z")
            return signed + timedelta(seconds=float(query[f"{prefix}-expires"]))
        except (KeyError, ValueError, OverflowError):
            continue
    end = instant(query.get("expires") or query.get("x-expires") or query.get("se"))
    return end if end and end > _EARLIEST else None
