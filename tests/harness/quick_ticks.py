"""Ticks that come sooner: a test that waits for one, as after a crash, waits a fifth as long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.engine import lifecycle
from orchestrator.engine.ticker import Ticker

#: The longest interval, in seconds, that is shortened. Longer ones are of chores.
_LONGEST = 2.0


class QuickTicker(Ticker):
    """Recovers, expires and wakes five times a second."""

    def every(
        self, seconds: float, name: str, run: Callable[..., Awaitable[None]], *args: Any
    ) -> None:
        """Await `run(*args)` every so many seconds, or five times as often."""
        # The lag of ticks is measured by the beat.
        quick = seconds <= _LONGEST and name != "beat"
        super().every(seconds / 5 if quick else seconds, name, run, *args)


@contextmanager
def quick_ticks() -> Iterator[None]:
    """Give services that start during the block such ticks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "Ticker", QuickTicker)
        yield
