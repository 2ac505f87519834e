from __future__ import annotations

import asyncio

from support.waiting import eventually
from trow.lib.repeated import Repeated


class Told:
    def __init__(self) -> None:
        self.lines: list[tuple[str | None, int]] = []

    def __call__(self, key: str | None, count: int) -> None:
        self.lines.append((key, count))


async def test_the_first_is_told_at_once_and_those_that_follow_by_their_number() -> None:
    told = Told()
    repeated: Repeated[str] = Repeated(told, seconds=0.05)
    for _ in range(5):
        repeated.note("a")
    repeated.note("b")
    assert told.lines == [("a", 1), ("b", 1)]
    await eventually(lambda: ("a", 4) in told.lines)
    repeated.note("a")
    assert told.lines == [("a", 1), ("b", 1), ("a", 4), ("a", 1)]


async def test_too_many_different_ones_are_counted_together() -> None:
    told = Told()
    repeated: Repeated[str] = Repeated(told, most=2, seconds=60)
    for number in range(1000):
        repeated.note(f"event {number}")
    assert told.lines == [("event 0", 1), ("event 1", 1), (None, 1)]
    repeated.settle()
    assert told.lines[3:] == [(None, 997)]
    repeated.settle()
    await asyncio.sleep(0)
    assert len(told.lines) == 4
