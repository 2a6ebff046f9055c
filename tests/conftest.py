"""What most tests of the engine stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.house import House, house


@pytest.fixture
async def h(tmp_path: Path) -> AsyncIterator[House]:
    """A house with one `agentsflare` account called `main`, its loops at rest."""
    async with house(tmp_path) as opened:
        yield opened
