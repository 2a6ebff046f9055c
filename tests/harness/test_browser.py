"""The browser of the tests finds what is wrong with a page, and shows Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.browser import Tab, axe, browsing

if TYPE_CHECKING:
    from playwright.async_api import Browser, Route

pytestmark = [
    pytest.mark.proof,
    pytest.mark.timeout(300),  # Once, Chromium is installed.
    pytest.mark.asyncio(loop_scope="session"),
]

URL = "http://127.0.0.1:9"
POLICY = "default-src 'none'; img-src https:; script-src 'self'; style-src 'self'"
UNREACHED = "net::ERR_NAME_NOT_RESOLVED"
GOOD = '<!doctype html><html lang="en"><title>A page</title><main><h1>Jobs</h1></main></html>'
#: What is added to the page, and how a fault begins that it is.
FAULTY = {
    "an inline script": ("<script>1</script>", "policy: script-src-elem: inline"),
    "an inline style": ('<p style="color: red">a</p>', "policy: style-src-attr: inline"),
    "an inline handler": ('<img src="x" onerror="1" alt="">', "policy: script-src-attr: inline"),
    "a foreign script": ('<script src="https://a.example/"></script>', "policy: script-src-elem: "),
    "a foreign image": ('<img src="https://a.example/" alt="">', "foreign: GET https://a.example/"),
    "another host": ('<img src="https://a.example/" alt="">', f"request: {UNREACHED}"),
    "another address": ('<img src="https://192.0.2.1/" alt="">', f"request: {UNREACHED}"),
    "an exception": ('<script src="/throws.js"></script>', "script: thrown"),
    "an error in the console": ('<script src="/logs.js"></script>', "console: logged"),
    "a missing file": ('<script src="/no.js"></script>', f"request: 404: GET {URL}/no.js"),
    "a lost file": ('<script src="/lost.js"></script>', "request: net::ERR_CONNECTION_REFUSED: "),
}
SCRIPTS = {"/throws.js": 'throw new Error("thrown")', "/logs.js": 'console.error("logged")'}


async def show(tab: Tab, html: str) -> None:
    """Open a page with a strict content security policy."""

    async def answer(route: Route) -> None:
        path = route.request.url.removeprefix(URL)
        if path in SCRIPTS:
            await route.fulfill(body=SCRIPTS[path], content_type="text/javascript")
        elif path == "/lost.js":
            await route.abort("connectionrefused")
        elif path == "/":
            headers = {"content-security-policy": POLICY}
            await route.fulfill(body=html, content_type="text/html; charset=utf-8", headers=headers)
        else:
            await route.fulfill(status=404)

    await tab.page.route(f"{URL}/**", answer)
    await tab.page.goto("/")


async def test_nothing_is_wrong_with_a_good_page(chromium: Browser) -> None:
    """What the test does to the page itself is no violation of its policy."""
    async with browsing(chromium, URL) as tab:
        await show(tab, GOOD)
        assert await axe(tab.page) == []
        assert await tab.faults() == []


async def test_every_fault_is_found(chromium: Browser) -> None:
    missed = {}
    for name, (html, expected) in FAULTY.items():
        async with browsing(chromium, URL) as tab:
            await show(tab, GOOD.replace("</main>", f"{html}</main>"))
            found = [f"{fault.kind}: {fault.text}" for fault in await tab.faults()]
            if not any(fault.startswith(expected) for fault in found):
                missed[name] = found
    assert missed == {}


async def test_faults_are_found_without_scripts(chromium: Browser) -> None:
    async with browsing(chromium, URL, java_script_enabled=False) as tab:
        await show(tab, GOOD.replace("</main>", '<img src="https://a.example/b" alt=""></main>'))
        assert "foreign" in [fault.kind for fault in await tab.faults()]


async def test_axe_names_the_rule_and_the_element(chromium: Browser) -> None:
    async with browsing(chromium, URL) as tab:
        await show(tab, GOOD.replace("</main>", '<input id="search"></main>'))
        [violation] = await axe(tab.page)
        assert violation.startswith("critical: label: ")
        assert violation.endswith("#search")


async def test_a_page_gets_the_readers_choices(chromium: Browser) -> None:
    async with browsing(chromium, URL, width=360, dark=True, language="zh-CN") as tab:
        await show(tab, GOOD)
        chosen = (
            '[innerWidth, matchMedia("(prefers-color-scheme: dark)").matches, navigator.language]'
        )
        assert await tab.page.evaluate(chosen) == [360, True, "zh-CN"]


async def test_chinese_is_shown_by_a_chinese_font(chromium: Browser) -> None:
    """A character without a glyph would be drawn by the first font, as a box."""
    async with browsing(chromium, URL) as tab:
        await show(tab, GOOD.replace("Jobs", "Jobs 任务 <code>job ✓ 回调</code>"))
        cdp = await tab.page.context.new_cdp_session(tab.page)
        await cdp.send("DOM.enable")
        await cdp.send("CSS.enable")
        root = (await cdp.send("DOM.getDocument"))["root"]["nodeId"]
        node = await cdp.send("DOM.querySelector", {"nodeId": root, "selector": "h1"})
        used = await cdp.send("CSS.getPlatformFontsForNode", node)
        glyphs = {font["familyName"]: font["glyphCount"] for font in used["fonts"]}
        assert glyphs == {"Open Sans": 6, "Noto Sans S Chinese Regular": 4, "DejaVu Sans Mono": 6}
