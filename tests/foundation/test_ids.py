"""Ids that are cursors: unique and in time order."""

from __future__ import annotations

import itertools
import random
import re
import threading
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.ids import PREFIXES, Ids, _rest, _time, earliest, is_id, pattern
from tests.harness.runtime import START, ManualClock

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class FullRng(random.Random):
    """Always draws the largest number, so that the first increment overflows."""

    def getrandbits(self, k: int, /) -> int:
        return (1 << k) - 1


def decoded(text: str) -> uuid.UUID:
    """Return the UUID in a TypeID, decoded as in the specification."""
    number = 0
    for letter in text.partition("_")[2]:
        number = number * 32 + ALPHABET.index(letter)
    return uuid.UUID(int=number)


def test_an_id_is_a_version_7_uuid_of_the_current_time() -> None:
    clock = ManualClock()
    made = decoded(Ids(clock, random.Random(1))("job"))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == epoch_ms(START)


@given(ms=st.integers(0, (1 << 48) - 1), tail=st.integers(0, (1 << 74) - 1))
def test_every_bit_is_where_rfc_9562_has_it(ms: int, tail: int) -> None:
    """48 bits of time, version, 12 random bits, variant, 62 random bits."""
    made = decoded(f"job_{_time(ms)}{_rest(tail)}")
    assert made.time_low << 16 | made.time_mid == ms
    assert made.time_hi_version == 0x7000 | tail >> 62
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    random_end = (made.clock_seq_hi_variant & 0x3F) << 56 | made.clock_seq_low << 48 | made.node
    assert random_end == tail & (1 << 62) - 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0000000000e008000000000001", "00000000-0000-7000-8000-000000000001"),
        ("0000000000e00900000000000a", "00000000-0000-7000-9000-00000000000a"),
        ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ],
)
def test_ids_match_the_vectors_of_the_specification(text: str, number: str) -> None:
    """From spec/valid.json of the TypeID specification."""
    expected = uuid.UUID(number)
    tail = (expected.int >> 64 & 0xFFF) << 62 | expected.int & (1 << 62) - 1
    assert _time(expected.int >> 80) + _rest(tail) == text
    assert decoded(f"job_{text}") == expected


@given(st.lists(st.integers(-5000, 5000), max_size=60), st.integers())
def test_ids_sort_in_the_order_they_were_made_even_if_the_clock_goes_back(
    steps: list[int], seed: int
) -> None:
    clock = ManualClock()
    ids = Ids(clock, random.Random(seed))
    made = []
    for step in steps:
        clock.advance(step / 1000)
        made.append(ids("evt"))
    assert made == sorted(set(made))


def test_ids_still_sort_when_a_millisecond_is_used_up() -> None:
    ids = Ids(ManualClock(), FullRng())
    made = [ids("evt") for _ in range(100)]
    for _ in range(3):
        ids._tail = (1 << 74) - 1
        made += [ids("evt") for _ in range(3)]
    assert made == sorted(set(made))
    assert all(
        decoded(text).version == 7 and decoded(text).variant == uuid.RFC_4122 for text in made
    )


@given(st.lists(st.integers(0, 200), max_size=5), st.integers())
def test_ids_made_in_bulk_sort_with_single_ids(counts: list[int], seed: int) -> None:
    ids = Ids(ManualClock(), random.Random(seed))
    made = [text for count in counts for text in (*ids.many("evt", count), ids("evt"))]
    assert len(made) == sum(counts) + len(counts)
    assert made == sorted(set(made))
    assert all(is_id(text, "evt") for text in made)


def test_the_same_seed_makes_the_same_ids() -> None:
    first, second = (Ids(ManualClock(), random.Random(7)) for _ in range(2))
    assert first.many("job", 200) == [second("job") for _ in range(200)]


def test_every_increment_is_drawn_anew() -> None:
    """Two equal increments of 32 bits in a thousand are unlikely; a pool used twice would show."""
    made = [
        decoded(text).int & (1 << 62) - 1
        for text in Ids(ManualClock(), random.Random(3)).many("job", 1000)
    ]
    steps = [after - before for before, after in itertools.pairwise(made)]
    assert len(set(steps)) == len(steps)
    assert min(steps) >= 1
    assert 1 << 31 < max(steps) <= 1 << 32


def test_threads_never_get_the_same_id() -> None:
    ids, made = Ids(ManualClock(), random.Random(1)), list[str]()
    threads = [
        threading.Thread(target=lambda: made.extend(ids("job") for _ in range(500)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_id_is_recognised_by_its_prefix_alone(prefix: str) -> None:
    made = Ids(ManualClock(), random.Random(1))(prefix)
    assert re.fullmatch(f"{prefix}_[0-9a-z]{{26}}", made)
    assert [other for other in PREFIXES if is_id(made, other)] == [prefix]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job_",
        "job",
        "job_01kb7x3m5tf6a8r2w9n4c1d0e",
        "job_01kb7x3m5tf6a8r2w9n4c1d0ehh",
        "job_81kb7x3m5tf6a8r2w9n4c1d0eh",
        "job_01KB7X3M5TF6A8R2W9N4C1D0EH",
        "job_01kb7x3m5tf6a8r2w9n4c1d0ei",
        "job_01kb7x3m5tf6a8r2w9n4c1d0eh\n",
        "jobs_01kb7x3m5tf6a8r2w9n4c1d0eh",
        " job_01kb7x3m5tf6a8r2w9n4c1d0eh",
    ],
)
def test_almost_ids_are_not_ids(text: str) -> None:
    assert not is_id(text, "job")
    assert not re.fullmatch(pattern("job"), text)


def test_an_id_sorts_after_everything_made_before_its_millisecond() -> None:
    clock = ManualClock()
    early = Ids(clock, random.Random(1))("job")
    clock.advance(0.001)
    assert Ids(clock, random.Random(2))("job") > early
    assert datetime.fromtimestamp((decoded(early).int >> 80) / 1000, UTC) == START


def test_the_earliest_id_of_an_instant_lies_between_those_made_before_and_after() -> None:
    clock = ManualClock()
    before = [Ids(clock, random.Random(seed))("evt") for seed in range(20)]
    clock.advance(0.001)
    after = [Ids(clock, random.Random(seed))("evt") for seed in range(20)]
    between = earliest("evt", clock.now())
    assert max(before) < between <= min(after)
    assert is_id(between, "evt")
    assert decoded(between).version == 7
