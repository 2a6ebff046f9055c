"""Downloads of a job's results: whole files or none, up to a cap."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from orchestrator import __version__
from orchestrator.cli.failure import Failure
from orchestrator.cli.terminal import Terminal, clean
from orchestrator.client import is_loopback

#: Bytes: far more than minutes of 4K video.
CAP = 8 << 30
_TIMEOUT = httpx.Timeout(60, connect=10)
_REDIRECTS = 5


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


def download(terminal: Terminal, urls: Sequence[str], path: Path) -> None:
    """Write results into files: `path`, then `name-2.mp4` and so on. Raises `Failure`."""
    for number, url in enumerate(urls, 1):
        to = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        size = _fetched(terminal, url, to)
        terminal.notice(f"  {to}  {size / 1e6:.1f} MB")


def _fetched(terminal: Terminal, url: str, path: Path) -> int:
    """Return the number of bytes written to `path`, which is replaced at once or not at all."""
    part = path.with_name(path.name + ".part")
    # Results are on other hosts: they get no API key.
    http = httpx.Client(
        timeout=_TIMEOUT,
        follow_redirects=True,
        max_redirects=_REDIRECTS,
        trust_env=not is_loopback(url),
        headers={"user-agent": f"orchestrator-cli/{__version__}"},
    )
    try:
        with http, http.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                raise Failure(
                    f"{clean(url)} answered {response.status_code}",
                    hint="the job's output may have expired",
                )
            size = _saved(terminal, response, part, path.name)
        part.replace(path)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"{clean(url)} was not downloaded: {error or type(error).__name__}"
        raise Failure(
            message, hint="the job itself has succeeded; the URL may work later, or elsewhere"
        ) from error
    except OSError as error:
        raise Failure(f"{part}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return size


def _saved(terminal: Terminal, response: httpx.Response, part: Path, name: str) -> int:
    length = response.headers.get("content-length", "")
    whole = int(length) if length.isdigit() and "content-encoding" not in response.headers else None
    size = 0
    with part.open("wb") as file, _shown(terminal, name, whole) as advance:
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > CAP:
                raise Failure(f"the file is larger than {CAP >> 30} GiB: stopped")
            file.write(chunk)
            advance(len(chunk))
    return size


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
