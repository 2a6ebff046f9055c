"""Log lines on a thread of their own."""

from __future__ import annotations

import logging
import os

from orchestrator.foundation.log_writer import LineWriter, QueuedHandler


def test_lines_are_written_in_order_and_flushed() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines:
        log = LineWriter(writer)
        for number in range(100):
            log.write(f"line {number}")
        log.flush()
        os.close(writer)
        assert lines.read().split("\n") == [*(f"line {number}" for number in range(100)), ""]


def test_a_reader_that_stands_still_costs_lines_and_no_time() -> None:
    reader, writer = os.pipe()
    lost: list[int] = []
    with os.fdopen(reader, "rb") as lines, os.fdopen(writer, "wb"):
        log = LineWriter(writer, most=100_000)
        log.dropped = lost.append
        for _ in range(1000):
            log.write("x" * 999)
        log.flush(0.01)
        assert 500 < sum(lost) <= 900, "the pipe holds some, and the queue a hundred"
        kept = 1000 - sum(lost)
        assert all(len(lines.readline()) == 1000 for _ in range(kept)), "no line is cut"
        log.write("again")
        assert lines.readline() == b"again\n"


def test_lines_that_cannot_be_written_are_counted() -> None:
    lost: list[int] = []
    with open("/dev/full", "w") as full:
        log = LineWriter(full.fileno())
        log.dropped = lost.append
        log.write("one")
        log.write("two")
        log.flush()
    assert sum(lost) == 2


def test_a_record_that_cannot_be_rendered_is_lost() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines, os.fdopen(writer, "w"):
        handler = QueuedHandler(LineWriter(writer))
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
        handler.handle(logging.makeLogRecord({"msg": "after"}))
        handler.flush()
        assert lines.readline() == "after\n"
