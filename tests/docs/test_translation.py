"""The Chinese README keeps step with the English one."""

from __future__ import annotations

import re

from tests.harness.documents import README, TRANSLATION, Page

ENGLISH, CHINESE = Page(README), Page(TRANSLATION)


def test_both_have_the_same_headings_in_the_same_order() -> None:
    assert [level for level, _ in CHINESE.headings()] == [level for level, _ in ENGLISH.headings()]


def test_both_have_the_same_blocks_byte_for_byte() -> None:
    def shown(page: Page) -> list[tuple[str, str, str, str]]:
        return [(block.language, block.code, block.verb, block.how) for block in page.blocks()]

    assert shown(CHINESE) == shown(ENGLISH)


def test_both_have_the_same_links_except_to_each_other() -> None:
    assert CHINESE.links()[0] == README.name
    assert ENGLISH.links()[0] == TRANSLATION.name
    assert CHINESE.links()[1:] == ENGLISH.links()[1:]


def test_both_have_the_same_code_spans() -> None:
    """Translated sentences order them differently."""

    def spans(page: Page) -> list[str]:
        return sorted(re.findall(r"`([^`\n]+)`", page.prose))

    assert spans(CHINESE) == spans(ENGLISH)


def test_both_link_to_each_other_at_the_top() -> None:
    for page, other in ((ENGLISH, TRANSLATION), (CHINESE, README)):
        assert f"]({other.name})" in page.text.splitlines()[2]
