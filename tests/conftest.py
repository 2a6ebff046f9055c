"""What most tests of the engine stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.house import House, house

# The same examples on every run, and none of them too slow for a busy machine.
settings.register_profile("steady", deadline=None, derandomize=True, print_blob=False)
settings.load_profile("steady")


@pytest.fixture
async def h(tmp_path: Path) -> AsyncIterator[House]:
    """A house with one `agentsflare` account called `main`, its loops at rest."""
    async with house(tmp_path) as opened:
        yield opened
