"""Pages in real Chromium: at every width, in both themes and languages, live, and by keyboard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest
import pytest_asyncio

from tests.harness.api_caller import KEY, until
from tests.harness.browser import axe, browsing
from tests.harness.live import Live, live, order
from tests.harness.screenshots import LANGUAGES, WIDTHS

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [
    pytest.mark.proof,
    pytest.mark.timeout(300),  # Once, Chromium is installed.
    pytest.mark.asyncio(loop_scope="session"),
]

CLIPS = "https://cdn.example.com/"
Theme = Literal["light", "dark"]
#: Width and theme of each look at a page, in each language.
LOOKS: list[tuple[int, Theme]] = [(width, theme) for width in WIDTHS for theme in get_args(Theme)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    async with live(tmp_path_factory.mktemp("pages"), ("kling", "dreamto")) as it:
        for account in ("kling", "dreamto"):
            job = await it.api.submit(order(account))
            await it.delivered(job["id"])
        # A failed job, whose event does not arrive everywhere.
        await it.api.subscribe("http://127.0.0.1:9/closed", "job.failed")
        it.world.inject("kling", "submit", "fail_render")
        job = await it.api.submit(order("kling"))
        await it.delivered(job["id"], "job.failed")
        yield it


async def sign_in(page: Page) -> None:
    await page.goto("/dashboard")
    await page.locator("#key").fill(KEY)
    await page.keyboard.press("Enter")
    await page.locator("h1").wait_for()
    await page.wait_for_url("**/dashboard")


async def paths(service: Live) -> list[str]:
    """Return the address of every page."""
    job, failed = [
        (await service.api.get(f"/v1/jobs?status={status}&limit=1"))["data"][0]["id"]
        for status in ("succeeded", "failed")
    ]
    link = await service.api.call("POST", f"/v1/jobs/{job}/share", {})
    shared = link.json()["url"].partition("/dashboard")[2]
    of_jobs = ["/jobs", f"/jobs/{failed}", f"/jobs/{job}", "/try", f"/try?job={job}", shared]
    event = (await service.api.get("/v1/events?limit=1"))["data"][0]["id"]
    of_accounts = ["/accounts", "/accounts/kling", "/keys"]
    of_events = ["/events", "/events?type=account.*", f"/events/{event}"]
    return ["", *of_jobs, *await _of_deliveries(service), *of_accounts, *of_events]


async def _of_deliveries(service: Live) -> list[str]:
    """Return the addresses of the pages about deliveries, subscribers and replays."""
    (pending, *_) = (await service.api.get("/v1/deliveries?status=pending"))["data"]
    (delivery, *_) = (await service.api.get("/v1/deliveries?status=delivered"))["data"]
    replay = (await service.api.call("POST", "/v1/replays", {"status": "dead"})).json()["id"]
    return [
        "/deliveries", "/deliveries?status=dead", f"/deliveries/{delivery['id']}", "/subscribers",
        f"/subscribers/{delivery['subscriber']}", "/subscribers/new", "/replays",
        f"/subscribers/{delivery['subscriber']}/edit",
        f"/deliveries/{pending['id']}", f"/subscribers/{pending['subscriber']}",
        f"/replays/{replay}", "/replays/new?status=delivered", "/replays/retry",
    ]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
async def test_pages_are_without_fault_at_every_look(
    chromium: Browser, service: Live, language: str
) -> None:
    async with browsing(chromium, service.url, language=language) as tab:
        await tab.page.goto("/dashboard/sign-in")
        wrong = await _wrong(tab.page)
        await sign_in(tab.page)
        for path in await paths(service):
            await tab.page.goto(f"/dashboard{path}")
            wrong += await _wrong(tab.page)
        assert wrong == []
        # Clips are the vendor's, on a host that no test reaches.
        assert [fault for fault in await tab.faults() if CLIPS not in fault.text] == []


async def _wrong(page: Page) -> list[str]:
    """Return what is wrong with a page that is open; style sheets alone tell its looks apart."""
    found: list[str] = []
    for width, theme in LOOKS:
        await page.set_viewport_size({"width": width, "height": 900})
        await page.emulate_media(color_scheme=theme)
        faults = await axe(page)
        if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            faults.append("it is wider than the screen")
        found += [f"{page.url} at {width} px, {theme}: {fault}" for fault in faults]
    return found


async def test_rows_change_while_a_page_is_open(chromium: Browser, service: Live) -> None:
    async with browsing(chromium, service.url) as tab:
        await sign_in(tab.page)
        await tab.page.goto("/dashboard/jobs")
        await _streams(service, 1)
        job = await service.api.submit(order("kling"))
        row = tab.page.locator(f"[id='{job['id']}']")
        await row.get_by_text("succeeded").wait_for(timeout=15_000)
        assert await tab.faults() == []


async def test_an_attempt_shows_while_its_page_is_open(chromium: Browser, service: Live) -> None:
    (sent, *_) = (await service.api.get("/v1/deliveries?status=delivered"))["data"]
    async with browsing(chromium, service.url) as tab:
        await sign_in(tab.page)
        await tab.page.goto(f"/dashboard/deliveries/{sent['id']}")
        tab.page.on("dialog", lambda dialog: dialog.accept())
        await tab.page.get_by_role("button", name="Resend now").click()
        await tab.page.locator(f"#attempt-{sent['tries'] + 1}").wait_for(timeout=15_000)
        await tab.page.locator("[data-moving]").wait_for(state="detached", timeout=15_000)
        assert await tab.faults() == []


async def test_eight_tabs_share_one_stream(chromium: Browser, service: Live) -> None:
    async with browsing(chromium, service.url) as tab:
        await sign_in(tab.page)
        pages = [await tab.page.context.new_page() for _ in range(8)]
        for page in pages:
            await page.goto("/dashboard/jobs")
        await _streams(service, 1)
        job = await service.api.submit(order("kling"))
        for page in pages:
            await page.bring_to_front()
            await page.locator(f"[id='{job['id']}']").wait_for(timeout=15_000)
        assert _held(service) == 1
        assert await tab.faults() == []
    await _streams(service, 0)


async def test_a_page_reads_and_acts_without_scripts(chromium: Browser, service: Live) -> None:
    async with browsing(chromium, service.url, java_script_enabled=False) as tab:
        await tab.page.goto("/dashboard/jobs")
        await tab.page.locator("#key").fill(KEY)
        await tab.page.get_by_role("button", name="Sign in").click()
        await tab.page.locator("tbody a").first.click()
        await tab.page.get_by_role("button", name="Retry").first.click()
        assert "/dashboard/jobs/job_" in tab.page.url
        assert await tab.page.locator("h1").count() == 1


async def test_the_keyboard_alone_works(chromium: Browser, service: Live) -> None:
    async with browsing(chromium, service.url) as tab:
        await sign_in(tab.page)
        page = tab.page
        await page.keyboard.press("Tab")
        assert await _focused(page, "el => el.className") == "skip"
        await page.keyboard.press("Enter")
        await page.goto("/dashboard/jobs")
        for _ in range(30):
            await page.keyboard.press("Tab")
            if "/jobs/job_" in (await _focused(page, "el => el.getAttribute('href')") or ""):
                break
        assert await _focused(page, "el => getComputedStyle(el).outlineStyle") != "none"
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/jobs/job_*")


async def _focused(page: Page, of: str) -> Any:
    return await page.evaluate(f"({of})(document.activeElement)")


def _held(service: Live) -> int:
    """Return how many streams and long polls are open."""
    level = service.runtime.waiting_slots._levels[0]
    return level.held.get("", (0, 0))[0]


async def _streams(service: Live, count: int) -> None:
    held: Callable[[], bool] = lambda: _held(service) == count  # noqa: E731
    await until(held, f"{count} streams are open")
