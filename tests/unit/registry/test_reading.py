"""Documents are read where nobody waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from trow.oci.manifest import LARGE
from trow.registry.reading import DocumentReader


async def test_small_ones_are_read_at_once_and_large_ones_one_at_a_time_beside_the_event_loop() -> None:
    reader, at_a_time = DocumentReader(), list[int]()
    under_way = 0

    def read(_: bytes) -> threading.Thread:
        nonlocal under_way
        under_way += 1
        at_a_time.append(under_way)
        under_way -= 1
        return threading.current_thread()

    here = threading.current_thread()
    assert await reader.read(b"x" * LARGE, read) is here
    threads = await asyncio.gather(*(reader.read(b"x" * (LARGE + 1), read) for _ in range(10)))
    assert here not in threads
    assert max(at_a_time) == 1


async def test_what_reading_raises_is_raised() -> None:
    for size in (1, LARGE + 1):
        with pytest.raises(ValueError, match="not so"):
            await DocumentReader().read(b"x" * size, lambda _: int("not so"))
