"""Pagination: a list read lazily page by page, or one page at a time by its cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from orchestrator.client.connection import Connection
from orchestrator.client.requests import Request
from orchestrator.client.responses import read
from orchestrator.client.sync_async import Dual, run_sync
from orchestrator.schemas import Page

P = ParamSpec("P")
ItemT = TypeVar("ItemT")


class AsyncPages(Generic[ItemT]):
    """A list, read lazily: iterate for every item, or take a page.

        async for job in client.jobs.list(status="failed"):
            ...
        page = await client.jobs.list(page_size=20).page()
        more = await client.jobs.list(page_size=20).page(after=page.next_cursor)

    Every iteration starts at the first page and requests it anew.
    """

    def __init__(self, connection: Connection, model: type[Page[ItemT]], request: Request) -> None:
        self._connection, self._model, self._request = connection, model, request

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        async for page in self.pages():
            for item in page.data:
                yield item

    async def pages(self) -> AsyncIterator[Page[ItemT]]:
        """Iterate over the pages."""
        after: str | None = None
        while True:
            page = await self.page(after)
            yield page
            after = _next_cursor(page, after)
            if after is None:
                return

    async def page(self, after: str | None = None) -> Page[ItemT]:
        """Return the page after a `next_cursor`, or the first page. Raises `ClientError`."""
        request = self._request if after is None else self._request.with_query(after=after)
        return read(self._model, await self._connection.call(request))


class Pages(Generic[ItemT]):
    """A list, read lazily: iterate for every item, or take a page.

        for job in client.jobs.list(status="failed"):
            ...
        page = client.jobs.list(page_size=20).page()
        more = client.jobs.list(page_size=20).page(after=page.next_cursor)

    Every iteration starts at the first page and requests it anew.
    """

    def __init__(self, pages: AsyncPages[ItemT]) -> None:
        self._pages = pages

    def __iter__(self) -> Iterator[ItemT]:
        for page in self.pages():
            yield from page.data

    def pages(self) -> Iterator[Page[ItemT]]:
        """Iterate over the pages."""
        after: str | None = None
        while True:
            page = self.page(after)
            yield page
            after = _next_cursor(page, after)
            if after is None:
                return

    def page(self, after: str | None = None) -> Page[ItemT]:
        """Return the page after a `next_cursor`, or the first page. Raises `ClientError`."""
        return run_sync(self._pages.page(after))


def _next_cursor(page: Page[ItemT], after: str | None) -> str | None:
    """Return the next page's cursor, None at the end: also if the cursor does not move."""
    return page.next_cursor if page.has_more and page.next_cursor != after else None


def dual_list(
    function: Callable[Concatenate[Any, P], AsyncPages[ItemT]],
) -> Dual[P, Pages[ItemT], AsyncPages[ItemT]]:
    """Offer a method that returns a list in both modes."""
    return Dual(function, Pages)
