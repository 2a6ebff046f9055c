"""A page that is not about the task proves nothing about it, at any vendor."""

from __future__ import annotations

import pytest

from orchestrator.foundation.errors import CutOff, Refused
from tests.harness.foreign_pages import FOREIGN_PAGES
from tests.harness.vendor_samples import FOLDERS, vendor


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("page", FOREIGN_PAGES)
def test_a_page_that_is_not_about_the_task_is_no_answer(folder: str, page: str) -> None:
    with pytest.raises((Refused, CutOff)):
        vendor(folder).read_answer(FOREIGN_PAGES[page])
