"""Pages in real Chromium: what they show, what they ask for, and what is wrong with them.

A test takes the fixture `chromium`, which lives as long as the run, and so in the event loop of the
run: the test is marked `asyncio(loop_scope="session")`, and `proof`.

    async with browsing(chromium, service.url, width=360, language="zh-CN") as tab:
        await tab.page.goto("/docs")
        assert await axe(tab.page) == []
        assert await tab.faults() == []
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from tests.harness.chromium import installed

# Loaded when a browser is started: every worker of `make test` imports this file.
if TYPE_CHECKING:
    from playwright.async_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Page,
        Request,
        Response,
    )

#: * No name is resolved and no proxy used: a request to another host fails at once.
#: * Glyphs are not hinted: text has the same width on every machine.
_ARGUMENTS = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--font-render-hinting=none",
)
#: Called in every document before its own scripts. No content security policy applies to it.
_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (violation) => reportViolation(
    `${violation.effectiveDirective}: ${violation.blockedURI} ` +
    `(${violation.sourceFile}:${violation.lineNumber})`
));
"""
#: Style sheets are not fetched again: `connect-src` need not allow that.
_AXE_OPTIONS = {"preload": False, "resultTypes": ["violations"]}

Kind = Literal["console", "script", "request", "foreign", "policy"]


class Fault(NamedTuple):
    """Something that a page should not do.

    * `console`: an error in the console, a blocked resource included.
    * `script`: an exception that no script caught.
    * `request`: no response, or one of status 400 and above.
    * `foreign`: a request to another origin.
    * `policy`: a violation of the content security policy.
    """

    kind: Kind
    text: str


@dataclass
class Tab:
    """A page, alone in a browser without history, cookies and cache.

    Of a shared worker no fault is seen: Playwright does not watch it. It reaches no other host.
    """

    page: Page
    _faults: list[Fault]

    async def faults(self) -> list[Fault]:
        """Return what went wrong so far, here and in pages that this one opened, in order."""
        for page in self.page.context.pages:
            # What a page has reported is received before the value.
            await page.evaluate("0")
        return list(self._faults)


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[Browser]:
    """Run Chromium, headless, during the block."""
    from playwright.async_api import async_playwright

    browser = await asyncio.to_thread(installed)
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=browser.program,
            env=browser.environment(),
            args=_ARGUMENTS,
            # Chromium has none for root, and opens only pages of ours.
            chromium_sandbox=False,
        ) as running,
    ):
        yield running


@contextlib.asynccontextmanager
async def browsing(
    browser: Browser,
    url: str,
    *,
    width: int = 1440,
    height: int = 900,
    dark: bool = False,
    language: str = "en-US",
    **options: Any,
) -> AsyncIterator[Tab]:
    """Open a tab during the block. Paths are relative to `url`, the address of a service.

    `width` and `height` are in CSS pixels; `options` are those of Playwright's `new_context`, such
    as `java_script_enabled=False`. The time zone is UTC, unless they name another.
    """
    async with await browser.new_context(
        base_url=url,
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        locale=language,
        **{"timezone_id": "UTC", **options},
    ) as context:
        faults: list[Fault] = []
        await _watch(context, url, faults)
        yield Tab(await context.new_page(), faults)


async def axe(page: Page) -> list[str]:
    """Return what axe-core finds wrong with a page: impact, rule, advice and the elements."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(installed().axe)
    found = await page.evaluate("(options) => axe.run(document, options)", _AXE_OPTIONS)
    return [
        f"{each['impact']}: {each['id']}: {each['help']}: "
        + ", ".join(" ".join(map(str, node["target"])) for node in each["nodes"])
        for each in found["violations"]
    ]


async def _watch(context: BrowserContext, url: str, faults: list[Fault]) -> None:
    """Add the faults of every page of a browser to a list."""
    home = urlsplit(url)[:2]

    def add(kind: Kind, text: str) -> None:
        faults.append(Fault(kind, text))

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            add("console", f"{message.text} ({message.location['url']})")

    def request(sent: Request) -> None:
        target = urlsplit(sent.url)
        if target.scheme not in ("data", "blob") and target[:2] != home:
            add("foreign", f"{sent.method} {sent.url}")

    def failed(sent: Request) -> None:
        # The page itself gave up, or was left.
        if sent.failure != "net::ERR_ABORTED":
            add("request", f"{sent.failure}: {sent.method} {sent.url}")

    def response(received: Response) -> None:
        if received.status >= 400:
            add("request", f"{received.status}: {received.request.method} {received.url}")

    context.on("console", console)
    context.on("weberror", lambda error: add("script", str(error.error)))
    context.on("request", request)
    context.on("requestfailed", failed)
    context.on("response", response)
    await context.expose_binding("reportViolation", lambda _, text: add("policy", text))
    await context.add_init_script(_REPORT_VIOLATIONS)
