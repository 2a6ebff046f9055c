"""Lists: all of one, page by page as it is read, or a page at a time with a cursor."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from orchestrator.client.connection import Wire
from orchestrator.client.requests import Request
from orchestrator.client.responses import read
from orchestrator.client.sync_async import Awaiting, Blocking, Resource, finished
from orchestrator.schemas import Page

P = ParamSpec("P")
ThingT = TypeVar("ThingT")


@dataclass(frozen=True, slots=True)
class Listing(Generic[ThingT]):
    """A list on a server, not yet read."""

    wire: Wire
    model: type[Page[ThingT]]
    request: Request

    async def page(self, after: str | None) -> Page[ThingT]:
        """Return the part after a cursor, or the first one."""
        asked = self.request if after is None else self.request.asking(after=after)
        return read(self.model, await self.wire.call(asked))

    def next(self, page: Page[ThingT], after: str | None) -> str | None:
        """Return the cursor of the part after `page`, None if that was the last. A cursor that stands still is."""
        return page.next_cursor if page.has_more and page.next_cursor != after else None


class Pages(Generic[ThingT]):
    """A list, read lazily: iterate for everything in it, or take a page.

        for job in client.jobs.list(status="failed"):
            ...
        page = client.jobs.list(page_size=20).page()
        more = client.jobs.list(page_size=20).page(after=page.next_cursor)

    Every iteration begins at the beginning and asks the server anew.
    """

    def __init__(self, listing: Listing[ThingT]) -> None:
        self._listing = listing

    def __iter__(self) -> Iterator[ThingT]:
        for page in self.pages():
            yield from page.data

    def pages(self) -> Iterator[Page[ThingT]]:
        """Iterate over the pages."""
        after: str | None = None
        while True:
            page = self.page(after)
            yield page
            after = self._listing.next(page, after)
            if after is None:
                return

    def page(self, after: str | None = None) -> Page[ThingT]:
        """Return the page after a cursor (the `next_cursor` of another), or the first one. Raises `ClientError`."""
        return finished(self._listing.page(after))


class AsyncPages(Generic[ThingT]):
    """A list, read lazily: iterate for everything in it, or take a page.

        async for job in client.jobs.list(status="failed"):
            ...
        page = await client.jobs.list(page_size=20).page()
        more = await client.jobs.list(page_size=20).page(after=page.next_cursor)

    Every iteration begins at the beginning and asks the server anew.
    """

    def __init__(self, listing: Listing[ThingT]) -> None:
        self._listing = listing

    async def __aiter__(self) -> AsyncIterator[ThingT]:
        async for page in self.pages():
            for one in page.data:
                yield one

    async def pages(self) -> AsyncIterator[Page[ThingT]]:
        """Iterate over the pages."""
        after: str | None = None
        while True:
            page = await self.page(after)
            yield page
            after = self._listing.next(page, after)
            if after is None:
                return

    async def page(self, after: str | None = None) -> Page[ThingT]:
        """Return the page after a cursor (the `next_cursor` of another), or the first one. Raises `ClientError`."""
        return await self._listing.page(after)


class listed(Generic[P, ThingT]):  # noqa: N801 - used as a decorator
    """Offer a method of a `Resource` that describes a list as its face wants it."""

    def __init__(self, function: Callable[Concatenate[Any, P], Listing[ThingT]]) -> None:
        self._function = function

    @overload
    def __get__(self, it: Resource[Blocking], owner: type) -> Callable[P, Pages[ThingT]]: ...
    @overload
    def __get__(self, it: Resource[Awaiting], owner: type) -> Callable[P, AsyncPages[ThingT]]: ...
    @overload
    def __get__(self, it: None, owner: type) -> Callable[Concatenate[Any, P], Listing[ThingT]]: ...
    def __get__(self, it: Resource[Any] | None, owner: type) -> Callable[..., Any]:
        if it is None:
            return self._function
        method, face = MethodType(self._function, it), AsyncPages if it._face is Awaiting else Pages

        @functools.wraps(method)
        def describe(*args: P.args, **kwargs: P.kwargs) -> Any:
            return face(method(*args, **kwargs))

        return describe
