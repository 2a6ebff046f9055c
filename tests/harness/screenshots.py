"""Pictures of pages, for people to look at: three widths, light and dark, English and Chinese.

    .venv/bin/python -m tests.harness.screenshots http://127.0.0.1:8000 pictures /docs

It prints what is wrong with the pages, and exits with 1 if anything is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
from collections.abc import Sequence
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.browser import axe, browsing, started

if TYPE_CHECKING:
    from playwright.async_api import Page

WIDTHS = (360, 800, 1440)
LANGUAGES = ("en-US", "zh-CN")
#: A page with an event stream is never without a request.
_IDLE_WITHIN = 1000


async def save(url: str, folder: Path, paths: Sequence[str], cookies: str = "") -> list[str]:
    """Save whole pages of a service as PNG; return what is wrong with them, axe-core's word too.

    `cookies` is a header `Cookie`, for pages that need a session.
    """
    wrong: list[str] = []
    async with started() as browser:
        for width, dark, language in itertools.product(WIDTHS, (False, True), LANGUAGES):
            async with browsing(browser, url, width=width, dark=dark, language=language) as tab:
                for name, cookie in SimpleCookie(cookies).items():
                    await tab.page.context.add_cookies(
                        [{"name": name, "value": cookie.value, "url": url}]
                    )
                form = f"{width}-{'dark' if dark else 'light'}-{language[:2]}"
                for path in paths:
                    name = f"{path.strip('/').replace('/', '-') or 'index'}-{form}"
                    await _open(tab.page, path)
                    await tab.page.screenshot(path=folder / f"{name}.png", full_page=True)
                    wrong += [f"{name}: axe: {violation}" for violation in await axe(tab.page)]
                wrong += [f"{form}: {kind}: {text}" for kind, text in await tab.faults()]
    return wrong


async def _open(page: Page, path: str) -> None:
    from playwright.async_api import TimeoutError as StillBusy

    await page.goto(path)
    with contextlib.suppress(StillBusy):
        await page.wait_for_load_state("networkidle", timeout=_IDLE_WITHIN)


def main() -> int:
    """Parse the command line and run it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.harness.screenshots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", help="the address of a running service")
    parser.add_argument("folder", type=Path, help="where the pictures are saved")
    parser.add_argument("paths", nargs="+", metavar="path", help="a page, such as /docs")
    parser.add_argument("--cookies", default="", help="of a session: NAME=VALUE; NAME=VALUE")
    chosen = parser.parse_args()
    wrong = asyncio.run(save(chosen.url, chosen.folder, chosen.paths, chosen.cookies))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
