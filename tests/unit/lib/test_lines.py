"""Lines are written by a thread of their own; here the reader of a pipe is slow, gone, or its disk full."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from support.waiting import until
from trow.lib.lines import LineWriter

if TYPE_CHECKING:
    from collections.abc import Iterator


def told(count: int) -> bytes:
    return b"dropped %d\n" % count


class Pipe:
    """A pipe that is read when the test says so."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def stop_reading(self) -> None:
        os.close(self.reading)
        self.reading = -1

    def finish(self, writer: LineWriter) -> list[bytes]:
        """Everything, read from now on until the writer has ended."""
        content: list[bytes] = []

        def read() -> None:
            while some := os.read(self.reading, 65536):
                content.append(some)

        thread = threading.Thread(target=read)
        thread.start()
        writer.close(30)
        os.close(self.writing)
        self.writing = -1
        thread.join(30)
        return b"".join(content).splitlines()

    def close(self) -> None:
        for fd in (self.reading, self.writing):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def test_every_line_is_written_in_order(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, told)
    for number in range(1000):
        writer.put(b"%d\n" % number)
    assert pipe.finish(writer) == [b"%d" % number for number in range(1000)]
    assert writer.dropped == 0


def test_nobody_waits_for_a_reader_who_does_not_read(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, told, most_bytes=1_000_000)
    for number in range(40_000):
        writer.put(b"%099d\n" % number)
    assert writer.dropped >= 30_000 - 656  # what has room in a pipe, 65 536 bytes, is still counted as waiting
    writer.put(b"later\n")
    lines = pipe.finish(writer)
    numbers = [line for line in lines if not line.startswith(b"dropped")]
    assert len(numbers) + writer.dropped == 40_001
    assert lines[-1].startswith(b"dropped ")
    assert sum(int(line.split()[1]) for line in lines if line.startswith(b"dropped")) == writer.dropped


def test_a_line_that_goes_on_is_told_of_where_lines_are_missing(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, told, most_bytes=200_000)
    for _ in range(3000):
        writer.put(b"%099d\n" % 1)
    assert writer.dropped > 0
    while os.read(pipe.reading, 65536)[-100:].find(b"dropped") < 0:
        pass

    def is_taken() -> bool:
        before = writer.dropped
        writer.put(b"again\n")
        return writer.dropped == before

    until(is_taken)  # the thread has to come back from its write first
    assert b"again" in pipe.finish(writer)


def test_the_few_lines_that_tell_of_trouble_have_room_beside_the_many(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, told, most_bytes=1_000_000)
    for _ in range(20_000):
        writer.put(b"x" * 99 + b"\n", bulk=True)
    dropped = writer.dropped
    for _ in range(100):
        writer.put(b"trouble\n")
    assert writer.dropped == dropped > 0
    assert pipe.finish(writer).count(b"trouble") == 100


def test_closing_does_not_wait_for_a_reader_who_does_not_read(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, told)
    for _ in range(2000):
        writer.put(b"x" * 99 + b"\n")
    writer.close(0.01)
    writer.put(b"too late\n")
    assert writer.dropped == 1
    assert b"too late" not in pipe.finish(writer)


def test_a_reader_who_is_gone_costs_lines_alone(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, told)
    pipe.stop_reading()
    writer.put(b"one\ntwo\n", 2)
    until(lambda: writer.dropped >= 2)
    writer.close(30)


def test_a_full_disk_costs_lines_alone() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        writer = LineWriter(full.fileno(), told)
        writer.put(b"one\n")
        until(lambda: writer.dropped >= 1)
        writer.close(30)


def test_a_stream_that_another_program_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    writer = LineWriter(pipe.writing, told)
    for number in range(5000):
        writer.put(b"%099d\n" % number)
    assert pipe.finish(writer) == [b"%099d" % number for number in range(5000)]
