"""A service that tests share which change nothing in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.api.test_support import TWO, Caller, calling
from tests.harness import databases


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=databases.KINDS)
async def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Caller]:
    """One service for a module, with the accounts `main` and `dream`, on each kind of database.

    Its tests are marked `asyncio(loop_scope="module")`. Fails if they leave a job in it.
    """
    folder = tmp_path_factory.mktemp("service")
    address = databases.url(request.param, folder)
    async with calling(folder, database_url=address, accounts=TWO) as api:
        yield api
        assert await api.rows("job") == []
    databases.drop(address)
