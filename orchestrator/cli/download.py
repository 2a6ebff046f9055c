"""Downloads of a job's results: whole files or none, within a size and a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from orchestrator.cli.access import Access
from orchestrator.cli.failure import Failure
from orchestrator.cli.fetch import fetched, served
from orchestrator.cli.terminal import Terminal, clean
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.schemas import Job

#: Bytes: far more than minutes of 4K video.
CAP = 8 << 30
#: Seconds for one file, from its first redirect to its last byte.
_DEADLINE = 3600.0
#: Seconds before a download is too slow, and bytes a second that give it more.
_PATIENCE, _SLOWEST = 60.0, 16 << 10
#: A new file, never one that is already there, nor one that a link leads to.
_NEW_FILE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Source(NamedTuple):
    """A file to download: its URL for messages, and the response that has it."""

    url: str
    opened: Callable[[], contextlib.AbstractAsyncContextManager[httpx.Response]]


def public(url: str, allow_private: Sequence[str] = ()) -> Source:
    """Return a file at a URL, which gets no credentials.

    Addresses that are not public are fetched only from networks of `allow_private`.
    """
    return Source(url, partial(fetched, url, AddressPolicy(allow_private)))


def sources(job: Job, access: Access, allow_private: Sequence[str]) -> list[Source]:
    """Return the files of a job. One that needs the account's key is streamed by the server."""
    path = f"/v1/jobs/{quote(job.id, safe='')}/outputs"
    return [
        Source(file.content_url, partial(served, access, f"{path}/{number}"))
        if file.content_url
        else public(file.url, allow_private)
        for number, file in enumerate(job.output.files if job.output else ())
    ]


def writable(path: Path) -> Path:
    """Return a path where a file can be created. Raises `typer.BadParameter`.

    Checked before the job is submitted, which costs money.
    """
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; name a file in it", param_hint="--output")
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(
            f"{path.parent} is not there; make that folder", param_hint="--output"
        )
    return path


def download(terminal: Terminal, files: Sequence[Source], path: Path) -> None:
    """Write results into files: `path`, then `name-2.mp4` and so on. Raises `Failure`."""
    for number, source in enumerate(files, 1):
        to = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        size = _downloaded(terminal, source, to)
        terminal.notice(f"  {to}  {size / 1e6:.1f} MB")


def _downloaded(terminal: Terminal, source: Source, path: Path) -> int:
    """Return the number of bytes written to `path`, which is replaced at once or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        size = asyncio.run(_saved(terminal, source, part, path.name))
        part.replace(path)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        why = "it takes too long" if isinstance(error, TimeoutError) else str(error)
        raise Failure(
            f"{clean(source.url)} was not downloaded: {why or type(error).__name__}",
            hint="the job itself has succeeded; the URL may work later, or elsewhere",
        ) from error
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", hint="--output names another file") from error
    finally:
        part.unlink(missing_ok=True)
    return size


async def _saved(terminal: Terminal, source: Source, part: Path, name: str) -> int:
    """Write the body into a new file. Raises `TimeoutError` if it is late or trickles."""
    loop = asyncio.get_running_loop()
    began, size = loop.time(), 0
    async with asyncio.timeout(_DEADLINE), source.opened() as response:
        whole = _expected(source.url, response, part.parent)
        with _created(part) as descriptor, _shown(terminal, name, whole) as advance:
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > CAP:
                    raise Failure(f"the file is larger than {CAP >> 30} GiB: stopped")
                if loop.time() - began > _PATIENCE + size / _SLOWEST:
                    raise TimeoutError
                _write(descriptor, chunk)
                advance(len(chunk))
    return size


def _expected(url: str, response: httpx.Response, folder: Path) -> int | None:
    """Return the size that the response names. Raises `Failure` if it cannot be saved."""
    if response.status_code != httpx.codes.OK:
        raise Failure(
            f"{clean(url)} answered {response.status_code}",
            hint="the job's output may have expired",
        )
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise Failure(
            f"{clean(url)} is compressed ({clean(encoding[:40])}), which was not asked for"
        )
    length = response.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        return None
    size = int(length[:20])
    if size > CAP:
        raise Failure(f"the file is larger than {CAP >> 30} GiB")
    if size > (free := shutil.disk_usage(folder).free):
        raise Failure(f"{folder} has {free >> 20} MiB free, the file needs {size >> 20} MiB")
    return size


@contextlib.contextmanager
def _created(part: Path) -> Iterator[int]:
    descriptor = os.open(part, _NEW_FILE, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def _shown(terminal: Terminal, name: str, whole: int | None) -> Iterator[Callable[[int], None]]:
    """Show the progress on a terminal."""
    if not terminal.live:
        yield lambda _: None
        return
    columns = (TextColumn("  {task.description}", markup=False), BarColumn(bar_width=20))
    console = Console(stderr=True)
    with Progress(
        *columns, DownloadColumn(), TransferSpeedColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task(name, total=whole)
        yield lambda count: progress.advance(task, count)
